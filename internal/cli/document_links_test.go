package cli

// The links between the documents lead somewhere.

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"xks-proxy/internal/testkit"
)

var (
	documentLink    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	documentHeading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notInAnchors    = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchorsOf are the anchors that GitHub makes of the headings of a document.
func anchorsOf(text string) map[string]bool {
	anchors := map[string]bool{}
	for _, heading := range documentHeading.FindAllStringSubmatch(text, -1) {
		plain := notInAnchors.ReplaceAllString(strings.ToLower(heading[1]), "")
		anchors[strings.ReplaceAll(plain, " ", "-")] = true
	}
	return anchors
}

func TestLinksOfDocuments(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	links := 0
	for _, file := range append(files, "../../README.md", "../../CONTRIBUTING.md",
		"../../SECURITY.md", "../../CHANGELOG.md") {
		for _, link := range documentLink.FindAllStringSubmatch(testkit.ReadFile(t, file), -1) {
			path, anchor, _ := strings.Cut(link[1], "#")
			if strings.Contains(path, "://") {
				continue
			}
			links++
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			_, err := os.Stat(target)
			if err != nil {
				t.Errorf("%s: (%s) leads nowhere", filepath.Base(file), link[1])
				continue
			}
			if anchor != "" && !anchorsOf(testkit.ReadFile(t, target))[anchor] {
				t.Errorf("%s: (%s) leads to no heading", filepath.Base(file), link[1])
			}
		}
	}
	if links < 50 {
		t.Errorf("%d links, there were more", links)
	}
}

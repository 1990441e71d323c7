package test

// The Dockerfile, as far as it can be checked without an engine: its stages, what it
// copies, whom it runs as, and that its build command builds.

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dockerStage is one FROM and its instructions, as "NAME arguments".
type dockerStage struct {
	image, name  string
	instructions []string
}

func readDockerfile(t *testing.T) []dockerStage {
	t.Helper()
	text, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	var stages []dockerStage
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		words := strings.Fields(line)
		if words[0] == "FROM" {
			stage := dockerStage{image: words[1]}
			if len(words) == 4 && words[2] == "AS" {
				stage.name = words[3]
			}
			stages = append(stages, stage)
			continue
		}
		if len(stages) == 0 {
			t.Fatalf("%q stands before FROM", line)
		}
		last := &stages[len(stages)-1]
		last.instructions = append(last.instructions, strings.Join(words, " "))
	}
	return stages
}

// all are the arguments of every instruction of that name.
func (s dockerStage) all(name string) []string {
	var found []string
	for _, instruction := range s.instructions {
		arguments, ok := strings.CutPrefix(instruction, name+" ")
		if ok {
			found = append(found, arguments)
		}
	}
	return found
}

func TestDockerfile(t *testing.T) {
	stages := readDockerfile(t)
	if len(stages) != 2 || stages[0].name != "build" || stages[1].name != "" {
		t.Fatalf("stages %+v, want one named build and the image itself", stages)
	}
	build, image := stages[0], stages[1]
	modFile, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(modFile))
	if version == nil || !strings.HasPrefix(build.image, "golang:"+version[1]+"-bookworm") {
		t.Errorf("built with %s, go.mod says go %v", build.image, version)
	}
	if !strings.Contains(image.image, "debian12") {
		t.Errorf("runs on %s: its glibc must not be older than that of %s", image.image, build.image)
	}
	for _, sources := range build.all("COPY") {
		words := strings.Fields(sources)
		for _, source := range words[:len(words)-1] {
			_, err := os.Stat(filepath.Join("..", source))
			if err != nil {
				t.Errorf("COPY %s: %v", sources, err)
			}
		}
	}
	user := image.all("USER")
	if len(user) != 1 || !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(user[0]) {
		t.Errorf("USER %q, want one, numeric (Kubernetes checks runAsNonRoot by number), not root", user)
	}
	const program = "/usr/local/bin/xks-proxy"
	if got := image.all("ENTRYPOINT"); !slices.Equal(got, []string{`["` + program + `"]`}) {
		t.Errorf("ENTRYPOINT %q", got)
	}
	if got := image.all("CMD"); !slices.Equal(got, []string{`["serve", "--config", "/etc/xks-proxy/xks-proxy.yaml"]`}) {
		t.Errorf("CMD %q", got)
	}
	if got := image.all("EXPOSE"); !slices.Equal(got, []string{"8443"}) {
		t.Errorf("EXPOSE %q", got)
	}
	if got := image.all("VOLUME"); !slices.Equal(got, []string{"/var/lib/xks-proxy"}) {
		t.Errorf("VOLUME %q: the rest of the file system is read-only", got)
	}
	if got := image.all("RUN"); got != nil {
		t.Errorf("RUN %q: the image has no shell", got)
	}
	if !slices.Contains(image.all("COPY"), "--from=build /out/xks-proxy "+program) {
		t.Errorf("the program is not copied to %s", program)
	}
}

// TestDockerfileBuilds runs the build command of the Dockerfile on a copy of exactly
// what it copies: nothing outside of that may be needed.
func TestDockerfileBuilds(t *testing.T) {
	build := readDockerfile(t)[0]
	source, out := t.TempDir(), t.TempDir()
	ignore := strings.Fields(readText(t, "../.dockerignore"))
	for _, copied := range build.all("COPY") {
		words := strings.Fields(copied)
		for _, name := range words[:len(words)-1] {
			if !slices.Contains(ignore, "!"+name) {
				t.Errorf(".dockerignore leaves out %s, which the Dockerfile copies", name)
			}
			copyInto(t, filepath.Join("..", name), filepath.Join(source, name))
		}
	}
	// .dockerignore leaves them out.
	err := filepath.WalkDir(source, func(path string, _ os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			err = os.Remove(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range build.all("RUN") {
		if strings.HasPrefix(command, "go mod download") {
			continue // would fetch what this build has
		}
		shell := exec.Command("sh", "-c", strings.ReplaceAll(command, "/out/", out+"/"))
		shell.Dir = source
		said, err := shell.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, said)
		}
	}
	said, err := exec.Command(filepath.Join(out, "xks-proxy"), "version").CombinedOutput()
	if err != nil || !strings.Contains(string(said), "xks-proxy") {
		t.Errorf("the program built says %q, %v", said, err)
	}
}

// copyInto copies a file or a tree.
func copyInto(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Stat(from)
	switch {
	case err != nil:
	case info.IsDir():
		err = os.CopyFS(to, os.DirFS(from))
	default:
		writeFile(t, to, readText(t, from))
	}
	if err != nil {
		t.Fatal(err)
	}
}

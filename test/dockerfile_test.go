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
			if source == gitIfThere {
				continue
			}
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

// gitIfThere is .git, for a COPY that must not fail without it.
const gitIfThere = ".gi[t]"

// dockerContext is a copy of exactly what the Dockerfile copies, with what .dockerignore leaves
// out of that.
func dockerContext(t *testing.T) string {
	t.Helper()
	source := t.TempDir()
	ignore := strings.Fields(readText(t, "../.dockerignore"))
	for _, copied := range readDockerfile(t)[0].all("COPY") {
		words := strings.Fields(copied)
		for _, name := range words[:len(words)-1] {
			if !slices.Contains(ignore, "!"+strings.ReplaceAll(name, gitIfThere, ".git")) {
				t.Errorf(".dockerignore leaves out %s, which the Dockerfile copies", name)
			}
			if name != gitIfThere {
				copyInto(t, filepath.Join("..", name), filepath.Join(source, name))
			}
		}
	}
	return source
}

// dropIgnored removes what .dockerignore leaves out.
func dropIgnored(t *testing.T, source string) {
	t.Helper()
	err := filepath.WalkDir(source, func(path string, entry os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == "testdata":
			err = os.RemoveAll(path)
			if err != nil {
				return err
			}
			return filepath.SkipDir
		case strings.HasSuffix(path, "_test.go"):
			return os.Remove(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// buildImage runs the build commands of the Dockerfile, with VERSION as its build argument, and
// returns what the program prints for --version, or what the build printed and its error.
func buildImage(t *testing.T, source, version string) (string, error) {
	t.Helper()
	out := t.TempDir()
	for _, command := range readDockerfile(t)[0].all("RUN") {
		if strings.HasPrefix(command, "go mod download") {
			continue // would fetch what this build has
		}
		shell := exec.Command("sh", "-c", strings.ReplaceAll(command, "/out/", out+"/"))
		shell.Dir = source
		shell.Env = append(os.Environ(), "VERSION="+version, "GIT_CEILING_DIRECTORIES="+filepath.Dir(source))
		said, err := shell.CombinedOutput()
		if err != nil {
			return string(said), err
		}
	}
	said, err := exec.Command(filepath.Join(out, "xks-proxy"), "--version").CombinedOutput()
	return strings.TrimSpace(string(said)), err
}

// TestDockerfileBuilds runs the build commands of the Dockerfile on a copy of exactly what it
// copies: nothing outside of that may be needed. Without .git the version has to be given.
func TestDockerfileBuilds(t *testing.T) {
	t.Parallel()
	source := dockerContext(t)
	dropIgnored(t, source)
	said, err := buildImage(t, source, "v9.8.7")
	if err != nil || said != "xks-proxy v9.8.7" {
		t.Errorf("with VERSION=v9.8.7, without .git: %q, %v", said, err)
	}
	said, err = buildImage(t, source, "")
	if err == nil || !strings.Contains(said, "give --build-arg VERSION=v1.2.3") {
		t.Errorf("without VERSION and .git: %q, %v", said, err)
	}
}

// TestDockerfileVersionOfClone builds an image from a clone: the tag is the version, what
// .dockerignore leaves out is not a change, and another file is one.
func TestDockerfileVersionOfClone(t *testing.T) {
	t.Parallel()
	source := dockerContext(t)
	git := func(arguments ...string) {
		t.Helper()
		command := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@example.com"},
			arguments...)...)
		command.Dir = source
		said, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", arguments, err, said)
		}
	}
	git("init", "-q")
	git("add", "-A", "-f")
	git("commit", "-q", "-m", "all")
	git("tag", "v1.4.5")
	dropIgnored(t, source)
	said, err := buildImage(t, source, "")
	if err != nil || said != "xks-proxy v1.4.5" {
		t.Errorf("from a clone: %q, %v", said, err)
	}
	said, err = buildImage(t, source, "v9.8.7")
	if err != nil || said != "xks-proxy v9.8.7" {
		t.Errorf("with VERSION=v9.8.7, from a clone: %q, %v", said, err)
	}
	writeFile(t, filepath.Join(source, "internal/text/more.go"), "package text\n")
	said, err = buildImage(t, source, "")
	if err != nil || said != "xks-proxy v1.4.5+dirty" {
		t.Errorf("with another file: %q, %v", said, err)
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

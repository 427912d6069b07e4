package deploy_test

import (
	"bytes"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestRelease_reproducible builds a release from two copies of the source in
// different directories and expects the same bytes. What -trimpath makes
// independent of the directory comes out of Go's build cache the second time;
// that the compiler itself repeats is Go's promise (go.dev/blog/rebuild).
func TestRelease_reproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("builds twice")
	}
	first, second := releaseHash(t), releaseHash(t)
	if first != second {
		t.Error("two builds of one source differ")
	}
}

// TestRelease_commands holds every command that builds a release.
func TestRelease_commands(t *testing.T) {
	builds := 0
	for _, file := range []string{"Dockerfile", "docs/deployment.md", ".ci/sbom", ".ci/release"} {
		text := strings.ReplaceAll(read(t, file), "\\\n", " ")
		for line := range strings.Lines(text) {
			if !releaseBuild.MatchString(line) {
				continue
			}
			builds++
			if !strings.Contains(line, "-trimpath") || !strings.Contains(line, "CGO_ENABLED=0") {
				t.Errorf("%s builds without -trimpath or with cgo: %s", file, line)
			}
		}
	}
	if builds < 2 {
		t.Errorf("%d commands that build a release were found", builds)
	}
}

var releaseBuild = regexp.MustCompile(`go build .*\./cmd/acsbridge`)

// releaseHash copies the source to a directory of its own and returns the hash of
// what the release's flags make of it.
func releaseHash(t *testing.T) [sha256.Size]byte {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "source")
	copySource(t, source)
	binary := filepath.Join(dir, "acsbridge")
	cmd := exec.Command("go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -X main.version=v1", "-o", binary, "./cmd/acsbridge")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(content, []byte(dir)) {
		t.Error("the binary names the directory it was built in")
	}
	return sha256.Sum256(content)
}

// copySource copies the repository without what begins with a dot.
func copySource(t *testing.T, to string) {
	t.Helper()
	const root = ".."
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		from := filepath.Join(root, entry.Name())
		switch {
		case strings.HasPrefix(entry.Name(), "."):
		case entry.IsDir():
			err = os.CopyFS(filepath.Join(to, entry.Name()), os.DirFS(from))
		case entry.Type().IsRegular():
			var content []byte
			if content, err = os.ReadFile(from); err == nil {
				err = os.MkdirAll(to, 0o700)
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(to, entry.Name()), content, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestRelease_refuses has the release script refuse what is not a release, before it
// builds anything.
func TestRelease_refuses(t *testing.T) {
	for _, tool := range []string{"bash", "git"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not here", tool)
		}
	}
	dir := t.TempDir()
	run := func(name string, args ...string) (string, error) {
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.net",
			"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.net")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	git := func(args ...string) {
		t.Helper()
		if out, err := run("git", args...); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	refuses := func(want string, args ...string) {
		t.Helper()
		out, err := run("bash", append([]string{".ci/release"}, args...)...)
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("release %v: %v, want %q:\n%s", args, err, want, out)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, ".ci"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{".ci/release": read(t, ".ci/release"), "CHANGELOG.md": "## v1.2.30 (2026-12-01)\n\n## Unreleased\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	git("init", "--quiet")
	git("add", ".")
	git("commit", "--quiet", "--message=x")
	refuses("has no tag")
	git("tag", "v1.2.3")
	refuses(`CHANGELOG.md has no heading "## v1.2.3 (YYYY-MM-DD)"`)
	if err := os.WriteFile(filepath.Join(dir, "CHANGELOG.md"), []byte("## v1.2.3 (2026-12-01)\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuses("the work tree is not clean")
	refuses("linux is not GOOS/GOARCH", "linux")
	refuses("is not empty", "--snapshot", "--dist", ".")
}

package deploy_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// dist is what .ci/release has built. .ci/run builds it, because that needs a module
// which no other test needs.
var dist = flag.String("dist", "", "directory that .ci/release has written")

// distFiles returns the names of the files in dist that match a pattern, at least one.
func distFiles(t *testing.T, pattern string) []string {
	t.Helper()
	if *dist == "" {
		t.Skip("no -dist")
	}
	files, err := filepath.Glob(filepath.Join(*dist, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no %s in %s: %v", pattern, *dist, err)
	}
	return files
}

// TestDist_checksums compares the file of checksums with all other files.
func TestDist_checksums(t *testing.T) {
	want := ""
	for _, file := range distFiles(t, "acsbridge*") {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want += fmt.Sprintf("%x  %s\n", sha256.Sum256(content), filepath.Base(file))
	}
	got, err := os.ReadFile(filepath.Join(*dist, "checksums.txt"))
	if err != nil {
		t.Fatal(err)
	}
	lines := func(text string) []string { return slices.Sorted(strings.Lines(text)) }
	if diff := cmp.Diff(lines(want), lines(string(got))); diff != "" {
		t.Errorf("checksums (-want +got):\n%s", diff)
	}
}

// TestDist_archives looks into each archive, and runs the binary of this platform.
func TestDist_archives(t *testing.T) {
	for _, file := range slices.Concat(distFiles(t, "acsbridge_*.tar.gz"), distFiles(t, "acsbridge_*.zip")) {
		name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(file), ".tar.gz"), ".zip")
		version, platform, _ := strings.Cut(strings.TrimPrefix(name, "acsbridge_"), "_")
		files := readArchive(t, file)
		command := "acsbridge"
		want := []string{"LICENSE", "README.md", "CHANGELOG.md", "man/acsbridge.1.gz", "man/acsbridge-serve.1.gz",
			"completions/acsbridge.bash", "completions/acsbridge.zsh", "completions/acsbridge.fish", "completions/acsbridge.ps1"}
		switch {
		case strings.HasPrefix(platform, "windows"):
			command += ".exe"
		case strings.HasPrefix(platform, "linux"):
			want = append(want, "acsbridge.service", "acsbridge-deliver@.service")
		}
		for _, member := range append(want, command) {
			if len(files[name+"/"+member]) == 0 {
				t.Errorf("%s has no %s, but %q", file, member, slices.Sorted(maps.Keys(files)))
			}
		}
		checkSBOM(t, filepath.Join(*dist, name+".cdx.json"), "v"+version)
		if platform != runtime.GOOS+"_"+runtime.GOARCH {
			continue
		}
		binary := filepath.Join(t.TempDir(), command)
		if err := os.WriteFile(binary, files[name+"/"+command], 0o700); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(binary, "version").CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "acsbridge v"+version+" ") {
			t.Errorf("%s is %q: %v", name, out, err)
		}
	}
}

// checkSBOM checks which release a bill of materials is about, and that it has content.
func checkSBOM(t *testing.T, file, version string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
		return
	}
	var document struct {
		Metadata   struct{ Component struct{ Version string } }
		Components []any
	}
	if err := json.Unmarshal(text, &document); err != nil || document.Metadata.Component.Version != version || len(document.Components) < 10 {
		t.Errorf("%s is about %s with %d components, want %s: %v", file, document.Metadata.Component.Version, len(document.Components), version, err)
	}
}

// TestDist_deb looks into each Debian package, and verifies the signature of one that
// was signed.
func TestDist_deb(t *testing.T) {
	for _, file := range distFiles(t, "*.deb") {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		members := readAr(t, content)
		files := readTar(t, members["data.tar.gz"])
		for _, unit := range []string{"acsbridge.service", "acsbridge-deliver@.service"} {
			_, start, found := strings.Cut(string(files["./usr/lib/systemd/system/"+unit]), "\nExecStart=")
			if !found || len(files["."+strings.Fields(start)[0]]) == 0 {
				t.Errorf("%s: %s runs what is not in the package", file, unit)
			}
		}
		for _, want := range []string{"./usr/share/man/man1/acsbridge-serve.1.gz", "./usr/share/bash-completion/completions/acsbridge",
			"./usr/share/zsh/vendor-completions/_acsbridge", "./usr/share/fish/vendor_completions.d/acsbridge.fish", "./usr/share/doc/acsbridge/copyright"} {
			if len(files[want]) == 0 {
				t.Errorf("%s has no %s", file, want)
			}
		}
		control := readTar(t, members["control.tar.gz"])
		if text := string(control["./control"]); !strings.Contains(text, "\nArchitecture: "+strings.TrimSuffix(file[strings.LastIndex(file, "_")+1:], ".deb")+"\n") {
			t.Errorf("%s: %s", file, text)
		}
		if len(control["./postinst"]) == 0 || len(control["./prerm"]) == 0 {
			t.Errorf("%s has no scripts", file)
		}
		if os.Getenv("GNUPGHOME") != "" {
			verifyDeb(t, members)
		}
	}
	for _, file := range distFiles(t, "*.rpm") {
		if content, err := os.ReadFile(file); err != nil || !bytes.HasPrefix(content, []byte{0xed, 0xab, 0xee, 0xdb}) {
			t.Errorf("%s is not a package: %v", file, err)
		}
	}
}

// verifyDeb checks a signature of debsigs, which is over the members before it.
func verifyDeb(t *testing.T, members map[string][]byte) {
	t.Helper()
	signature := filepath.Join(t.TempDir(), "signature")
	if err := os.WriteFile(signature, members["_gpgorigin"], 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("gpg", "--batch", "--verify", signature, "-")
	cmd.Stdin = io.MultiReader(bytes.NewReader(members["debian-binary"]), bytes.NewReader(members["control.tar.gz"]), bytes.NewReader(members["data.tar.gz"]))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("the signature: %v\n%s", err, out)
	}
}

// readArchive returns the files of a .tar.gz or .zip.
func readArchive(t *testing.T, file string) map[string][]byte {
	t.Helper()
	if strings.HasSuffix(file, ".gz") {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return readTar(t, content)
	}
	archive, err := zip.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	files := map[string][]byte{}
	for _, entry := range archive.File {
		in, err := entry.Open()
		if err != nil {
			t.Fatal(err)
		}
		if files[entry.Name], err = io.ReadAll(in); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// readTar returns the files of a compressed tar.
func readTar(t *testing.T, content []byte) map[string][]byte {
	t.Helper()
	decompressed, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for archive := tar.NewReader(decompressed); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if header.Mode&0o022 != 0 {
			t.Errorf("every user can write %s", header.Name)
		}
		if files[header.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
}

// readAr returns the members of an archive of ar(5), whose headers have 60 bytes.
func readAr(t *testing.T, content []byte) map[string][]byte {
	t.Helper()
	rest, ok := bytes.CutPrefix(content, []byte("!<arch>\n"))
	members := map[string][]byte{}
	for len(rest) > 60 && ok {
		size, err := strconv.Atoi(string(bytes.TrimSpace(rest[48:58])))
		if err != nil || 60+size > len(rest) {
			t.Fatalf("a member of %d bytes: %v", size, err)
		}
		members[path.Clean(string(bytes.TrimSpace(rest[:16])))] = rest[60 : 60+size]
		rest = rest[min(60+size+size%2, len(rest)):]
	}
	return members
}

package secretfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acsbridge/acsbridge/internal/secretfile"
)

func TestRead(t *testing.T) {
	long := strings.Repeat("x", secretfile.MaxSecret)
	for name, test := range map[string]struct{ content, want string }{
		"plain":                  {"hunter2", "hunter2"},
		"end of line":            {"hunter2\n", "hunter2"},
		"end of line of Windows": {"hunter2\r\n", "hunter2"},
		"byte order mark":        {"\xef\xbb\xbfhunter2\n", "hunter2"},
		"spaces":                 {" hunter2 ", " hunter2 "},
		"longest":                {long + "\r\n", long},
		"too long":               {long + "x", ""},
		"empty":                  {"\n", ""},
		"two lines":              {"hunter2\nhunter3\n", ""},
	} {
		file := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(file, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := secretfile.Read(file)
		if got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: the error has the secret: %v", name, err)
		}
	}
}

func TestCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]string{0o600: "", 0o440: "", 0o604: "run chmod o=", 0o602: "run chmod o="} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		if err := secretfile.Check(file); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("mode %04o: %v, want %q", mode, err, want)
		}
	}
	if err := secretfile.Check(filepath.Dir(file)); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("directory: %v", err)
	}
}

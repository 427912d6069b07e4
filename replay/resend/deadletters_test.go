package resend_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/replay/resend"
)

const (
	wholeLetter   = `{"time":"2026-03-01T12:00:00Z","reason":"too_large","journalIndex":7,"receivedAt":"2026-03-01T12:00:00Z","stream":"ACS","subject":"acs.contoso.X.2.c","headers":{"ce-id":"1"},"payload":"aGVsbG8="}` + "\n"
	corruptLetter = `{"time":"2026-03-01T12:00:00Z","reason":"corrupt","journalIndex":8}` + "\n"
)

func openLetters(t *testing.T, text string) *resend.DeadLetterFile {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dead-letters.ndjson")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := resend.OpenDeadLetters(path)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// TestDeadLetterFile_letters reads what the forwarder writes, also half a line.
func TestDeadLetterFile_letters(t *testing.T) {
	file := openLetters(t, wholeLetter+wholeLetter[:20]+"\n"+corruptLetter)
	var got []*resend.DeadLetter
	for i := range file.Len() {
		letter, err := file.Letter(i)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, letter)
	}
	if len(got) != 3 {
		t.Fatalf("%d letters", len(got))
	}
	if l, m := got[0], got[0].Message; l.Reason != "too_large" || m.Sequence != 7 || m.Stream != "ACS" || m.Subject != "acs.contoso.X.2.c" ||
		m.Header.Get("ce-id") != "1" || string(m.Data) != "hello" || m.Time.Year() != 2026 {
		t.Errorf("%+v", l)
	}
	if l := got[1]; l.Reason != resend.CutOff || l.Message.Subject != "" {
		t.Errorf("%+v", l)
	}
	if l := got[2]; l.Reason != "corrupt" || l.Message.Subject != "" || l.Message.Sequence != 8 {
		t.Errorf("%+v", l)
	}
}

// TestDeadLetterFile_claim keeps the bridge out of the file, reads what it has added
// before, and leaves a file with the letters that are not removed.
func TestDeadLetterFile_claim(t *testing.T) {
	file := openLetters(t, wholeLetter)
	path := file.Path
	added, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = added.WriteString(corruptLetter)
	}
	if err != nil {
		t.Fatal(err)
	}
	added.Close()
	if err := file.Claim(); err != nil || file.Len() != 2 {
		t.Fatalf("%d letters, error %v", file.Len(), err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the bridge still has the file: %v", err)
	}
	if err := os.WriteFile(path, []byte(wholeLetter), 0o600); err != nil { // by the bridge
		t.Fatal(err)
	}
	if other, err := resend.OpenDeadLetters(path); err != nil || other.Claim() == nil {
		t.Errorf("a second file is claimed: %v", err)
	}
	if err := file.Remove(0); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path + resend.ClaimedSuffix)
	if diff := cmp.Diff(corruptLetter, string(text)); err != nil || diff != "" {
		t.Errorf("error %v, file (-want +got):\n%s", err, diff)
	}
	if left, err := file.Close(); err != nil || !left {
		t.Errorf("left %v, error %v", left, err)
	}
	if err := file.Remove(1); err != nil {
		t.Fatal(err)
	}
	if left, err := file.Close(); err != nil || left {
		t.Errorf("left %v, error %v", left, err)
	}
	if _, err := os.Stat(path + resend.ClaimedSuffix); !os.IsNotExist(err) {
		t.Errorf("an empty file stays: %v", err)
	}
}

// TestDeadLetterFile_twoProcesses lets only the one that changes a file first change it
// again: the other would put back what is removed.
func TestDeadLetterFile_twoProcesses(t *testing.T) {
	first := openLetters(t, wholeLetter+corruptLetter+wholeLetter)
	if err := first.Claim(); err != nil {
		t.Fatal(err)
	}
	second, err := resend.OpenDeadLetters(first.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Remove(0); err != nil {
		t.Fatal(err)
	}
	if l, err := first.Letter(1); err != nil || l.Reason != "corrupt" {
		t.Errorf("after the removal of the first, the second letter is %+v, error %v", l, err)
	}
	if err := second.Remove(1); err == nil || !strings.Contains(err.Error(), "another process has changed the file") {
		t.Error("the second process removes:", err)
	}
	if _, err := second.Letter(1); err == nil {
		t.Error("the second process reads lines that are others by now")
	}
	if text, err := os.ReadFile(first.Path); string(text) != corruptLetter+wholeLetter {
		t.Errorf("error %v, file\n%s", err, text)
	}
}

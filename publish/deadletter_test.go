package publish

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// A crash in the middle of a line must not spoil the next one.
func TestADeadLetterAfterATornOneIsReadable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dead-letters.ndjson")
	if err := os.WriteFile(path, []byte(`{"time":"2026-03-01T12:00:00Z","rea`), 0o600); err != nil {
		t.Fatal(err)
	}
	d := &deadLetters{path: path}
	defer d.close()
	for index := range uint64(2) {
		if err := d.add(index, &sample, reasonTooLarge); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var read []uint64
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var letter deadLetter
		if json.Unmarshal(lines.Bytes(), &letter) == nil {
			read = append(read, letter.Index)
		}
	}
	if len(read) != 2 || read[0] != 0 || read[1] != 1 {
		t.Errorf("read letters %v, want 0 and 1", read)
	}
}

func TestDeadLettersAreBoundedAndBeginAgainWhenTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dead-letters.ndjson")
	d := &deadLetters{path: path}
	defer d.close()
	if err := d.add(1, &sample, reasonTooLarge); err != nil {
		t.Fatal(err)
	}
	d.size = maxDeadLetters
	if err := d.add(2, &sample, reasonTooLarge); err != errDeadLettersFull {
		t.Fatalf("got %v, want %v", err, errDeadLettersFull)
	}
	if err := os.Rename(path, path+".taken"); err != nil {
		t.Fatal(err)
	}
	if err := d.add(2, &sample, reasonTooLarge); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

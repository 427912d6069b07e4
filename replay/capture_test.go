package replay_test

import (
	"bytes"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats.go"

	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// capture returns what a capture of the messages is.
func capture(t *testing.T, list ...*replay.StoredMessage) string {
	t.Helper()
	var b bytes.Buffer
	target := replay.NewCapture(&b)
	for _, m := range list {
		target.Send(t.Context(), m, func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		})
	}
	if err := target.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// collect returns the messages of a reading up to its error.
func collect(messages iter.Seq2[*replay.StoredMessage, error]) (list []*replay.StoredMessage, err error) {
	for m, err := range messages {
		if err != nil {
			return list, err
		}
		list = append(list, m)
	}
	return list, nil
}

// TestReadCapture reads what a capture wrote, also with unusual payloads and headers.
func TestReadCapture(t *testing.T) {
	list := messages(6, 2)
	list[1].Data = []byte(`{"a" : "\u002B", "b":1.0,  "c":"<&>"}`)
	list[2].Data = []byte("no JSON \x00\xff")
	list[3].Data = []byte{}
	list[4].Header = nats.Header{"ce-id": {"1"}, "twice": {"a", "b"}, "empty": {""}, "quote": {`"\`}}
	list[5].Time = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	got, err := collect(replay.ReadCapture(strings.NewReader(capture(t, list...)), replay.Selection{}))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(list, got, cmpopts.IgnoreUnexported(replay.StoredMessage{}), cmpopts.EquateApproxTime(0)); diff != "" {
		t.Error(diff)
	}
}

// TestReadCapture_subjectsWithoutSlots gives each event its subject of today.
func TestReadCapture_subjectsWithoutSlots(t *testing.T) {
	list := messages(2, 2)
	want := list[1].Subject
	for _, m := range list {
		parts, _ := schemas.ParseSubject(m.Subject)
		m.Subject = strings.Join([]string{"acs", parts.Resource, parts.Type, parts.Call}, ".")
	}
	got, err := collect(replay.ReadCapture(strings.NewReader(capture(t, list...)), replay.Selection{Call: "call-1"}))
	if err != nil || len(got) != 1 || got[0].Subject != want {
		t.Errorf("%d messages, error %v, want one with subject %s", len(got), err, want)
	}
}

// TestReadCapture_byteOrderMark: editors of Windows write one at the beginning of a file.
func TestReadCapture_byteOrderMark(t *testing.T) {
	got, err := collect(replay.ReadCapture(strings.NewReader("\xef\xbb\xbf"+capture(t, messages(2, 2)...)), replay.Selection{}))
	if err != nil || len(got) != 2 {
		t.Errorf("%d messages, error %v", len(got), err)
	}
	_, err = collect(replay.ReadCapture(strings.NewReader("\xff\xfe{\x00}\x00\n\x00"), replay.Selection{}))
	if err == nil || err.Error() != "line 1: the text is UTF-16; save it as UTF-8" {
		t.Errorf("error %v", err)
	}
}

// TestReadCapture_invalid names the line.
func TestReadCapture_invalid(t *testing.T) {
	good := capture(t, messages(2, 2)...)
	first, second, _ := strings.Cut(good, "\n")
	for text, want := range map[string]string{
		"{}\n":                       "line 1: not a message of a capture",
		first + "\n{\"streem\":1}\n": "line 2: not a message of a capture",
		first + "\nhello\n":          "line 2: not a message of a capture",
		second + first:               "line 2: sequence 1 comes after 2",
		first + "\n\n" + first:       "line 3: sequence 1 comes after 1",
		strings.Replace(first, "acs.contoso", "acs.*", 1):          "line 1: the subject is not that of an event",
		strings.Replace(first, `"event":`, `"event":null,"x":`, 1): "line 1: not a message of a capture",
		first[:len(first)-5]: "line 1: not a message of a capture",
	} {
		_, err := collect(replay.ReadCapture(strings.NewReader(text), replay.Selection{}))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s\ngot  %v\nwant %s", text, err, want)
		}
	}
	if _, err := collect(replay.ReadCapture(failing{}, replay.Selection{})); !errors.Is(err, errDisk) {
		t.Errorf("error %v", err)
	}
}

var errDisk = errors.New("disk")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errDisk }

// TestCapture_fullDisk reports what cannot be written.
func TestCapture_fullDisk(t *testing.T) {
	var failed error
	target := replay.NewCapture(full{})
	for range 10 {
		m := messages(1, 1)[0]
		m.Data = slices.Concat([]byte(`"`), bytes.Repeat([]byte("x"), 100<<10), []byte(`"`))
		target.Send(t.Context(), m, func(err error) { failed = errors.Join(failed, err) })
	}
	if !errors.Is(failed, errDisk) || !errors.Is(target.Flush(), errDisk) {
		t.Errorf("error %v", failed)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errDisk }

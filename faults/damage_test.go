package faults_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/acsbridge/acsbridge/schemas"
)

// segmentRoom is the size of a segment of the journal.
const segmentRoom = 16 << 20

const (
	// damages is how many records are damaged in a round.
	damages = 20
	// untouched are the newest records: a flipped bit in the last batch looks like a
	// batch that was not finished.
	untouched = 100
)

// TestJournal_damaged flips a bit in some of the records that the stream does not have
// yet, while no bridge runs. Those become dead letters and are counted, and everything
// else is stored, in order.
func TestJournal_damaged(t *testing.T) {
	scenario{rounds: byForm(1, 5), fault: func(w *world, round int) {
		w.nats.nodes[0].stop(os.Kill)
		w.answers(500, recoversWithin)
		w.bridge.kill()
		w.flipBits()
		w.bridge.start()
		w.nats.nodes[0].start()
		w.countsCorrupt(damages)
	}}.run(t)
}

// identity is the beginning of an event in the journal: its id and source.
var identity = regexp.MustCompile(`"id":"([^"]+)","source":"([^"]+)"`)

// kept is an event in a file.
type kept struct {
	file  string
	at    int // of the id
	data  int // after the source
	msgID string
}

// records returns the records in the journal, in order, with repetitions.
func (b *bridge) records() []kept {
	b.t.Helper()
	files, err := filepath.Glob(filepath.Join(b.dir, "journal", "*.wal"))
	if err != nil || len(files) == 0 {
		b.t.Fatalf("%s has no journal: %v", b.dir, err)
	}
	return recordsIn(b.t, files)
}

// recordsIn returns the events in files that have their bytes.
func recordsIn(t testing.TB, files []string) (list []kept) {
	t.Helper()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range identity.FindAllSubmatchIndex(text, -1) {
			e := schemas.Inbound{ID: string(text[at[2]:at[3]]), Source: string(text[at[4]:at[5]])}
			list = append(list, kept{file, at[2], at[5], e.MsgID()})
		}
	}
	return list
}

// flipBits damages records that the stream does not have, each in one bit.
func (w *world) flipBits() {
	w.Helper()
	have := make(map[string]bool)
	node := w.nats.nodes[0]
	node.start()
	for _, m := range w.nats.messages(schemas.Stream) {
		have[m.get(schemas.HeaderMsgID)] = true
	}
	node.stop(os.Kill)
	list := w.bridge.records()
	times := make(map[string]int)
	for _, k := range list {
		times[k.msgID]++
	}
	list = slices.DeleteFunc(list[:max(len(list)-untouched, 0)], func(k kept) bool {
		return have[k.msgID] || times[k.msgID] > 1 || w.damaged[k.msgID] > 0
	})
	if len(list) < 2*damages {
		w.Fatalf("only %d records can be damaged", len(list))
	}
	for _, n := range w.rng.Perm(len(list))[:damages] {
		k := list[n]
		w.damaged[k.msgID]++
		// The id and the source stay, to find the record again in the next round.
		at := k.at - 1 - w.rng.IntN(200) // in its headers
		if w.rng.IntN(3) == 0 {
			at = k.data + w.rng.IntN(100)
		}
		if err := flip(k.file, int64(at), byte(1)<<w.rng.IntN(8)); err != nil {
			w.Fatal(err)
		}
	}
}

// flip changes bits of one byte of a file.
func flip(name string, at int64, bits byte) error {
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	var b [1]byte
	if _, err := file.ReadAt(b[:], at); err != nil {
		return err
	}
	b[0] ^= bits
	_, err = file.WriteAt(b[:], at)
	return err
}

// countsCorrupt waits until the bridge counts so many damaged records.
func (w *world) countsCorrupt(damaged int) {
	w.Helper()
	var count float64
	defer func() { w.Logf("%v of %d damaged records are dead letters", count, damaged) }()
	until(w, aroundWithin, fmt.Sprintf("%d records are dead letters", damaged), func() bool {
		count = w.bridge.metrics()[`acsbridge_dead_letters_total{reason="corrupt"}`]
		return count >= float64(damaged)
	})
}

// TestJournal_truncatedSegment cuts the end off a full segment of the journal, while no
// bridge runs. The end has the index of the segment, so all its records become dead
// letters and are counted.
func TestJournal_truncatedSegment(t *testing.T) {
	if *form != "long" {
		t.Skip("fills segments of the journal: run with -form=long")
	}
	scenario{load: load{rate: 400, mix: bulky}, fault: func(w *world, _ int) {
		w.nats.nodes[0].stop(os.Kill)
		var files []string
		until(w, recoversWithin*3, "the journal has three segments", func() (ok bool) {
			files, _ = filepath.Glob(filepath.Join(w.bridge.dir, "journal", "*.wal"))
			return len(files) > 2
		})
		w.bridge.kill()
		held := 0
		for _, k := range w.bridge.records() {
			if k.file == files[1] {
				w.damaged[k.msgID]++
				held++
			}
		}
		if err := os.Truncate(files[1], segmentRoom/2); err != nil {
			w.Fatal(err)
		}
		w.bridge.start()
		w.nats.nodes[0].start()
		w.countsCorrupt(held)
	}}.run(t)
}

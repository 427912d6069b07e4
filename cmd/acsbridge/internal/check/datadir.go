package check

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/bridge"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/running"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/internal/datadir"
	"github.com/acsbridge/acsbridge/publish"
)

const (
	// fsyncs is how often the time of an fsync is measured.
	fsyncs = 8
	// maxHeld bounds the records of a journal that are looked at.
	maxHeld = 10_000
)

// slowFsync is the time of an fsync from which answers are late; a test has another.
var slowFsync = 50 * time.Millisecond

// findRunning looks for a bridge that uses the data directory.
func (c *checker) findRunning() {
	for _, part := range []string{"journal", "nats"} {
		locked, err := datadir.Locked(filepath.Join(c.s.DataDir, part))
		c.locked = c.locked || err == nil && locked
	}
	dir, _ := filepath.Abs(c.s.DataDir)
	states, err := running.Find()
	if at := slices.IndexFunc(states, func(s running.State) bool { return s.DataDir == dir }); err == nil && at >= 0 {
		c.running = &states[at]
	}
}

// dataDir examines the data directory. What a running bridge has open is left alone.
func (c *checker) dataDir() {
	if c.s.Journal == "off" {
		c.ok("--journal off: events are durable in NATS alone")
		c.leftBehind()
		return
	}
	dir, there := existing(c.s.DataDir)
	if !there {
		c.ok("%s does not exist; serve makes it", c.s.DataDir)
	}
	c.fileSystem(dir)
	if !c.fsync(dir) {
		return
	}
	c.space(dir)
	if changes, err := bridge.Changes(c.s); err != nil {
		c.warn("repair or remove it", "last-start.json cannot be read, so changed settings are not found: %v", err)
	} else {
		for _, change := range changes {
			c.warn("if that was not meant, restore it (docs/operations.md, Changed settings)", "%s", change)
		}
	}
	if c.locked {
		c.ok("a bridge uses it: what its journal holds is under bridge")
		return
	}
	c.journal()
}

// existing returns a directory, or the nearest one above it that exists.
func existing(dir string) (found string, there bool) {
	for found, there = dir, true; ; found, there = filepath.Dir(found), false {
		if _, err := os.Stat(found); !errors.Is(err, fs.ErrNotExist) || found == filepath.Dir(found) {
			return found, there
		}
	}
}

// fileSystem warns of those that do not keep what was synced.
func (c *checker) fileSystem(dir string) {
	name, err := datadir.FileSystem(dir)
	switch {
	case err != nil:
		c.ok("file system not known: %v", err)
	case name == "tmpfs" || name == "ramfs":
		c.fail("put --data-dir on a disk", "%s is in memory (%s): a restart of the machine loses events that were answered 200", dir, name)
	case name == "overlay":
		c.warn("mount a volume at --data-dir", "%s is in the container's own layer (overlay): it goes with the container", dir)
	case slices.Contains([]string{"nfs", "smb", "9p", "fuse"}, name):
		c.warn("prefer a local disk or a block volume", "%s is on %s: whether fsync and locks hold depends on its server", dir, name)
	default:
		c.ok("%s is on %s", dir, name)
	}
}

// fsync writes and syncs a small file, and reports whether that works.
func (c *checker) fsync(dir string) bool {
	times, err := measureFsync(dir)
	if err != nil {
		c.fail("give this user the right to write there, or make room", "%s cannot be written: %v", dir, err)
		return false
	}
	median, most := times[len(times)/2], times[len(times)-1]
	text := fmt.Sprintf("an fsync takes %s, at most %s", round(median), round(most))
	if median > slowFsync {
		c.warn("take a faster disk: each answer waits for one", "%s", text)
	} else {
		c.ok("%s", text)
	}
	return true
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

func measureFsync(dir string) (times []time.Duration, err error) {
	file, err := os.CreateTemp(dir, datadir.CheckFile)
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	block := make([]byte, 4<<10)
	for range fsyncs {
		began := time.Now()
		if _, err := file.Write(block); err != nil {
			return nil, err
		}
		if err := file.Sync(); err != nil {
			return nil, err
		}
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	return times, nil
}

// space compares what is free with what the settings allow.
func (c *checker) space(dir string) {
	needed, err := bridge.DiskNeed(c.s)
	if err != nil {
		c.warn("give this user the right to read it", "what the data directory holds cannot be measured: %v", err)
		return
	}
	free, err := datadir.FreeBytes(dir)
	if err != nil {
		c.ok("free space not known: %v", err)
		return
	}
	if free < needed {
		c.fail("make room, or lower --journal-max-bytes or --stream-max-bytes",
			"%s free, and a full journal (%s) with its overhead needs %s more: then callbacks are answered 503", mib(free), c.s.JournalMaxBytes, mib(needed))
		return
	}
	c.ok("%s free; a full journal (%s) with its overhead needs %s more", mib(free), c.s.JournalMaxBytes, mib(needed))
	if c.s.EmbeddedNATS() && c.s.StreamMaxBytes == 0 {
		c.ok("the embedded server's stream is bounded by its age alone (--stream-max-bytes)")
	}
}

// journal names what a journal that is not in use holds.
func (c *checker) journal() {
	counts, records, err := publish.Held(c.s.DataDir, maxHeld)
	switch {
	case errors.Is(err, datadir.ErrLocked):
		c.ok("a bridge uses it, which has just started")
		return
	case err != nil:
		c.fail("see docs/operations.md, Disk failing", "the journal cannot be read: %v", err)
		return
	case records == 0:
		c.ok("no record waits in the journal for the stream")
		return
	}
	addresses := slices.SortedFunc(maps.Keys(counts), func(a, b publish.Address) int {
		return counts[b] - counts[a]
	})
	for _, a := range addresses {
		c.ok("the journal holds %s for stream %s, subjects %s.%s.>", view.Plural(counts[a], "record"), a.Stream, a.Prefix, a.Resource)
	}
	if len(addresses) == 0 {
		c.ok("the quarantine's journal holds %s", view.Plural(records, "record"))
	}
	for _, text := range bridge.OtherAddresses(c.s, counts) {
		c.warn("if that was not meant, restore the setting", "the journal %s", text)
	}
}

// leftBehind names a journal that --journal off does not send.
func (c *checker) leftBehind() {
	records, err := publish.LeftBehind(c.s.DataDir)
	switch {
	case errors.Is(err, datadir.ErrLocked):
	case err != nil:
		c.warn("see docs/operations.md, Disk failing", "the journal in %s cannot be read: %v", c.s.DataDir, err)
	case records > 0:
		c.warn("acsbridge drain brings them to the stream, or start once with --journal on", "the journal in %s holds %s that --journal off does not send", c.s.DataDir, view.Plural(records, "record"))
	}
}

func mib(bytes int64) string {
	if bytes >= 10<<30 {
		return fmt.Sprintf("%d GiB", bytes>>30)
	}
	return fmt.Sprintf("%d MiB", (bytes+1<<20-1)>>20)
}

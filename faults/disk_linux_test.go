package faults_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDisk_full leaves no room for the journal's next segment.
func TestDisk_full(t *testing.T) {
	var disk string
	scenario{
		load: load{rate: 400, mix: bulky}, rounds: byForm(1, 5),
		dir: func(w *world) string { disk = memory(w, "160m"); return disk },
		fault: func(w *world, round int) {
			empty := fill(w, disk, segmentRoom/4)
			w.rejects("the disk refuses writes")
			if round%2 == 1 {
				w.bridge.kill()
				w.bridge.launch("")
				_ = w.bridge.listening(listensWithin) // it may refuse to start without room
			}
			w.pause(byForm(time.Second, 10*time.Second))
			empty()
			if !running(w.bridge) {
				w.Logf("a bridge does not start on a full disk:\n%s", w.bridge.process.tail())
				w.bridge.start()
			}
		},
	}.run(t)
}

// TestDisk_writeErrors makes every write to a new place of the disk fail with EIO, at
// the fsync, like a broken disk: it is an image with holes, on a full file system. That
// works once for each disk, since the log that is opened again has no holes. There is no
// power cut afterwards: the kernel cannot write its own tables either, and reports that
// it loses data.
func TestDisk_writeErrors(t *testing.T) {
	for _, killed := range byForm([]bool{false}, []bool{false, true, false, true}) {
		t.Run(fmt.Sprintf("killed %v", killed), func(t *testing.T) {
			var host string
			scenario{
				dir: func(w *world) string {
					host = memory(w, "200m")
					return newVolume(w, host, 180, "-O", "^has_journal").dir
				},
				fault: func(w *world, _ int) {
					empty := fill(w, host, 0)
					w.rejects("the disk refuses writes")
					w.pause(byForm(2*time.Second, 10*time.Second))
					if killed {
						w.bridge.kill()
					}
					empty()
					if killed {
						w.bridge.start()
					}
				},
			}.run(t)
		})
	}
}

// TestDisk_readOnly makes the kernel find an error in the file system, which it then
// makes read-only until it is mounted again.
func TestDisk_readOnly(t *testing.T) {
	var disk *volume
	scenario{
		rounds: byForm(1, 5),
		dir: func(w *world) string {
			disk = newVolume(w, w.TempDir(), 256, "-e", "remount-ro")
			return disk.dir
		},
		fault: func(w *world, _ int) {
			disk.turnReadOnly()
			w.rejects("the disk refuses writes")
			w.pause(byForm(time.Second, 10*time.Second))
			w.bridge.process.signal(terminate)
			if !w.bridge.process.awaitEnd(stopsWithin) {
				w.Fatalf("the bridge does not end on a disk that is read-only:\n%s", w.bridge.process.tail())
			}
			w.bridge.front.SetTarget("")
			w.bridge.launch("")
			if !w.bridge.process.awaitEnd(listensWithin) {
				w.Error("a bridge starts on a disk that is read-only")
			}
			if log := w.bridge.process.tail(); !strings.Contains(log, unix.EROFS.Error()) {
				w.Errorf("the log does not name the fault of the disk:\n%s", log)
			}
			disk.restore()
			w.bridge.start()
		},
	}.run(t)
}

// running reports whether the bridge's process runs.
func running(b *bridge) bool {
	select {
	case <-b.process.ended:
		return false
	default:
		return true
	}
}

// losePower kills the bridge, loses what its disk has not written, and restores the disk.
// The network is cut first, because an fsync in progress may report success.
func (b *bridge) losePower(disk *volume) {
	b.t.Helper()
	b.front.SetTarget("")
	b.front.Reset()
	disk.cut()
	b.kill()
	disk.restore()
}

// TestPowerCut_journal cuts the power of the journal's disk at any instant, and so loses
// what was not synced. NATS is disconnected, so that only the journal has what was answered.
func TestPowerCut_journal(t *testing.T) {
	var disk *volume
	scenario{
		rounds: byForm(3, 50),
		dir:    func(w *world) string { disk = newVolume(w, w.TempDir(), 256); return disk.dir },
		fault: func(w *world, _ int) {
			node := w.nats.nodes[0]
			node.clients.SetTarget("")
			node.clients.Reset()
			w.answers(100, recoversWithin)
			w.pause(w.upTo(200 * time.Millisecond))
			w.bridge.losePower(disk)
			node.clients.SetTarget(node.address)
			w.bridge.start()
		},
	}.run(t)
}

// TestPowerCut_embedded has embedded NATS: the stream loses what it has acknowledged and
// not synced, and the journal has it still. That is hardest just after the journal was
// truncated.
func TestPowerCut_embedded(t *testing.T) {
	var disk *volume
	scenario{
		embedded: true, rounds: byForm(1, 10),
		dir: func(w *world) string { disk = newVolume(w, w.TempDir(), 1024); return disk.dir },
		fault: func(w *world, _ int) {
			w.pause(w.upTo(time.Second))
			if *form == "long" {
				w.truncates()
			}
			w.bridge.losePower(disk)
			begin := time.Now()
			w.bridge.launch("")
			if err := w.bridge.listening(recoversWithin); err != nil { // the server reads its streams first
				w.Fatal(err)
			}
			w.Logf("listening after %v", time.Since(begin).Round(time.Millisecond))
		},
	}.run(t)
}

// truncates waits until the journal is truncated.
func (w *world) truncates() {
	w.Helper()
	held := 0.0
	until(w, time.Minute, "the journal is truncated", func() bool {
		before := held
		held = w.bridge.metrics()["acsbridge_journal_records"]
		return held < before
	})
}

// TestPowerCut_cluster cuts the power of all three nodes of NATS at once, which sync
// before they acknowledge.
func TestPowerCut_cluster(t *testing.T) {
	if *form != "long" {
		t.Skip("takes half a minute: run with -form=long")
	}
	disks := make(map[*node]*volume)
	scenario{
		nodes: 3, load: load{rate: 100}, rounds: 5, drain: 2 * time.Minute, // each event is synced three times
		prepare: func(w *world) {
			for _, n := range w.nats.nodes {
				n.stop(os.Kill)
				disks[n] = newVolume(w, w.TempDir(), 512)
				n.store(disks[n].dir)
			}
			for _, n := range w.nats.nodes {
				n.start()
			}
			w.nats.together()
		},
		fault: func(w *world, _ int) {
			w.pause(w.upTo(2 * time.Second))
			for _, disk := range disks {
				disk.cut()
			}
			for _, n := range w.nats.nodes {
				n.stop(os.Kill)
				disks[n].restore()
			}
			for _, n := range w.nats.nodes {
				n.start()
			}
			w.forwards(time.Minute) // an election, after three nodes have read their stores
		},
	}.run(t)
}

// turnReadOnly makes the kernel believe that the file system has an error.
func (v *volume) turnReadOnly() {
	v.t.Helper()
	device := strings.TrimPrefix(v.device(), "/dev/")
	if err := os.WriteFile("/sys/fs/ext4/"+device+"/trigger_fs_error", []byte("1"), 0); err != nil {
		v.t.Skipf("needs a kernel whose ext4 can simulate an error: %v", err)
	}
}

// device is the block device that is mounted, as the kernel names it.
func (v *volume) device() string {
	v.t.Helper()
	text, err := os.ReadFile("/proc/mounts")
	if err != nil {
		v.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[1] == v.dir {
			return fields[0]
		}
	}
	v.t.Fatalf("%s is not mounted", v.dir)
	return ""
}

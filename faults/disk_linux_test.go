package faults_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDiskFull takes the room for the journal's next segment away.
func TestDiskFull(t *testing.T) {
	var disk string
	scenario{
		load: load{rate: 400, mix: bulky}, rounds: byForm(1, 5),
		dir: func(w *world) string { disk = memory(w, "160m"); return disk },
		fault: func(w *world, round int) {
			empty := fill(w, disk, segmentRoom/4)
			w.turnsAway("the disk refuses writes")
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

// TestDiskFails makes every write to a new place of the disk fail with EIO, at
// the fsync, as a broken disk would: the disk is an image with holes, on a
// file system without room. That is brought once to each disk, since the log
// that is opened again has no holes. No power cut comes after it: the kernel
// cannot write its own tables either, and says itself that it loses data then.
func TestDiskFails(t *testing.T) {
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
					w.turnsAway("the disk refuses writes")
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

// TestDiskReadOnly makes the kernel find an error in the file system, after
// which it allows no writes. Only mounting it again mends that.
func TestDiskReadOnly(t *testing.T) {
	var disk *volume
	scenario{
		rounds: byForm(1, 5),
		dir: func(w *world) string {
			disk = newVolume(w, w.TempDir(), 256, "-e", "remount-ro")
			return disk.dir
		},
		fault: func(w *world, _ int) {
			disk.turnReadOnly()
			w.turnsAway("the disk refuses writes")
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
			if said := w.bridge.process.tail(); !strings.Contains(said, unix.EROFS.Error()) {
				w.Errorf("the bridge does not say what is wrong with the disk:\n%s", said)
			}
			disk.restore()
			w.bridge.start()
		},
	}.run(t)
}

// running reports whether the bridge's process is there.
func running(b *bridge) bool {
	select {
	case <-b.process.ended:
		return false
	default:
		return true
	}
}

// losePower ends the bridge and what its disk has not written, and gives the
// disk its power back. The network goes first: an fsync that is under way at
// the cut may be told that all is well, and nobody hears of that.
func (b *bridge) losePower(disk *volume) {
	b.t.Helper()
	b.front.SetTarget("")
	b.front.Reset()
	disk.cut()
	b.kill()
	disk.restore()
}

// TestPowerCut takes the power of the disk under the journal away at any
// instant, and with it what was not synced. NATS is away, so that nobody
// else has what was answered.
func TestPowerCut(t *testing.T) {
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

// TestPowerCutEmbedded is the same for a bridge that runs NATS itself: the
// stream loses what it has acknowledged and not synced, and the journal makes
// up for it. That is hardest when the journal has just forgotten what it
// may.
func TestPowerCutEmbedded(t *testing.T) {
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

// truncates waits until the journal forgets records that the stream has.
func (w *world) truncates() {
	w.Helper()
	held := 0.0
	until(w, time.Minute, "the journal is truncated", func() bool {
		before := held
		held = w.bridge.metrics()["acsbridge_journal_records"]
		return held < before
	})
}

// TestPowerCutCluster takes the power of all three nodes of NATS at once,
// which sync before they acknowledge.
func TestPowerCutCluster(t *testing.T) {
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

// turnReadOnly tells the kernel that the file system has an error.
func (v *volume) turnReadOnly() {
	v.t.Helper()
	device := strings.TrimPrefix(v.device(), "/dev/")
	if err := os.WriteFile("/sys/fs/ext4/"+device+"/trigger_fs_error", []byte("1"), 0); err != nil {
		v.t.Skipf("needs a kernel whose ext4 can be told of an error: %v", err)
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

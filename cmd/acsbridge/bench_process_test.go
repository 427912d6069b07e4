package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// child is a process of the benchmark.
type child struct {
	b    *testing.B
	cmd  *exec.Cmd
	says string // where it listens
}

// start starts a command of TestMain and waits until it says where it listens.
func (w *wholePath) start(name string, args ...string) *child {
	c := &child{b: w.b, cmd: exec.Command(name, args...)}
	if name == "acsbridge" && *benchProfile != "" {
		c.cmd.Env = append(os.Environ(), profileVariable+"="+*benchProfile)
	}
	output, err := c.cmd.StderrPipe()
	if err != nil {
		w.b.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		w.b.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		line := lines.Text()
		var entry struct{ Callbacks string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Callbacks != "" {
			line = strings.TrimSuffix(strings.TrimPrefix(entry.Callbacks, "http://"), "/callbacks")
		}
		if strings.Contains(line, "127.0.0.1:") && !strings.HasPrefix(line, "{") {
			c.says = line
			go func() { _, _ = io.Copy(io.Discard, output) }()
			return c
		}
	}
	w.b.Fatalf("%s did not start: %v", name, c.cmd.Wait())
	return nil
}

func (c *child) stop() {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		c.b.Error(err)
	}
	_ = c.cmd.Wait()
}

// cpu is the time that the process has used so far, user and system.
func (c *child) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		c.b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	var ticks int64
	for _, i := range []int{11, 12} { // utime and stime, see proc(5)
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			c.b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100
}

// rss is the most memory that the process ever had, in MiB.
func (c *child) rss() float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		c.b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib float64
		if _, err := fmt.Sscanf(line, "VmHWM: %f kB", &kib); err == nil {
			return kib / 1024
		}
	}
	return 0
}

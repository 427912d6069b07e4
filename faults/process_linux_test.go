package faults_test

import (
	"os"
	"os/exec"
	"syscall"
)

// Signals: end gently; stop where you stand; go on.
var (
	terminate os.Signal = syscall.SIGTERM
	freeze    os.Signal = syscall.SIGSTOP
	thaw      os.Signal = syscall.SIGCONT
)

// dieWithParent has the kernel kill the process when its parent dies, so that
// a test that panics or runs out of time leaves nothing behind.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

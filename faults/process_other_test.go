//go:build !linux

package faults_test

import (
	"os"
	"os/exec"
)

// The faults run on Linux alone (see TestMain); the suite's own parts are
// tested everywhere.
var terminate, freeze, thaw os.Signal

func dieWithParent(*exec.Cmd) {}

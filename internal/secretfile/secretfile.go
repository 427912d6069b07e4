// Package secretfile looks at files that hold a secret before they are trusted.
package secretfile

import (
	"fmt"
	"os"
	"runtime"
)

// Check refuses a file that is no regular file, or that users outside its group
// can read or change. The group may read it: that is how Kubernetes hands a
// secret to a process that is not root.
func Check(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", name)
	}
	// Windows has no such bits and shows them all as set.
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o007 != 0 {
		return fmt.Errorf("%s holds a secret and every user of this host can read it (mode %04o); run chmod o= on it",
			name, info.Mode().Perm())
	}
	return nil
}

//go:build !unix || solaris || illumos || netbsd || openbsd || aix

package datadir

import "errors"

// FreeBytes reports errors.ErrUnsupported on this system.
func FreeBytes(string) (int64, error) { return 0, errors.ErrUnsupported }

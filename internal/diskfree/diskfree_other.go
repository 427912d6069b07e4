//go:build !unix || solaris || illumos || netbsd || openbsd || aix

package diskfree

import "errors"

// Bytes reports errors.ErrUnsupported here.
func Bytes(string) (int64, error) { return 0, errors.ErrUnsupported }

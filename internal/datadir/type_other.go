//go:build !linux

package datadir

import "errors"

// FileSystem reports errors.ErrUnsupported on this system.
func FileSystem(string) (string, error) { return "", errors.ErrUnsupported }

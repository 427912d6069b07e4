//go:build !linux

package journal

import "errors"

const canSyncData = false

func syncData(uintptr) error { return errors.ErrUnsupported }

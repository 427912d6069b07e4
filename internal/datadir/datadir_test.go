package datadir_test

import (
	"errors"
	"testing"

	"github.com/acsbridge/acsbridge/internal/datadir"
)

func TestFreeBytes(t *testing.T) {
	if free, err := datadir.FreeBytes(t.TempDir()); err != nil && !errors.Is(err, errors.ErrUnsupported) || err == nil && free <= 0 {
		t.Errorf("%d bytes free, %v", free, err)
	}
}

package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// size is a number of bytes. As text it can have a unit of [sizeUnits].
type size int64

// sizeUnits are binary only: a kB of 1000 bytes next to a KiB invites mistakes.
var sizeUnits = []struct {
	suffix string
	bytes  int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1},
}

// UnmarshalText reads a whole number with or without a unit.
func (s *size) UnmarshalText(text []byte) error {
	for _, unit := range sizeUnits {
		digits, found := strings.CutSuffix(string(text), unit.suffix)
		if !found {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/unit.bytes {
			break
		}
		*s = size(n * unit.bytes)
		return nil
	}
	return fmt.Errorf("%q is not a size; write a whole number with B, KiB, MiB, GiB or TiB, like 512MiB", text)
}

// String writes the largest unit that needs no fraction.
func (s size) String() string {
	for _, unit := range sizeUnits {
		if s != 0 && int64(s)%unit.bytes == 0 {
			return strconv.FormatInt(int64(s)/unit.bytes, 10) + unit.suffix
		}
	}
	return "0"
}

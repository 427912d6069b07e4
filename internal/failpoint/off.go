//go:build !faults

package failpoint

// At does nothing, and the compiler removes the call.
func At(string) {}

// Broken returns false.
func Broken(string) bool { return false }

// Volatile returns the file as it is.
func Volatile(f File) File { return f }

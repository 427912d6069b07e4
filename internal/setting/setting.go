// Package setting names the settings that an error is about, so that a room can check
// its own configuration and the command line can add where each value came from.
package setting

import "fmt"

// Error is one thing that is wrong with a setting. Its text has a hint, and never a
// value that may be a secret.
type Error struct{ Setting, Text string }

// Errorf returns an [Error].
func Errorf(setting, format string, args ...any) error {
	return &Error{setting, fmt.Sprintf(format, args...)}
}

// Error is one line.
func (e *Error) Error() string { return e.Setting + ": " + e.Text }

// Errors returns the errors of settings in err, which may be joined ones.
func Errors(err error) (list []*Error) {
	switch e := err.(type) {
	case *Error:
		return []*Error{e}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			list = append(list, Errors(inner)...)
		}
	case interface{ Unwrap() error }:
		return Errors(e.Unwrap())
	}
	return list
}

package config

import (
	"bytes"
	"strings"
	"testing"
)

const (
	testGUID  = "c3b7d7e8-4a3c-4a0b-9c55-0123456789ab"
	otherGUID = "0f0e0d0c-4a3c-4a0b-9c55-0123456789ab"
)

// parse returns what arguments of serve make, and what --print-config wrote. An
// argument like NATS_URL=value is a variable.
func parse(t *testing.T, args ...string) (*Settings, string, error) {
	t.Helper()
	var flags, variables []string
	for _, arg := range args {
		if strings.HasPrefix(arg, envPrefix) || strings.HasPrefix(arg, "NATS_") {
			variables = append(variables, arg)
		} else {
			flags = append(flags, arg)
		}
	}
	var out bytes.Buffer
	s, err := Parse(flags, variables, &out)
	return s, out.String(), err
}

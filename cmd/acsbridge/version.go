package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/alecthomas/kong"
)

// version is set by release builds with -ldflags "-X main.version=v1.2.3".
// Empty means: take what the Go tool recorded about the main module.
var version = ""

// versionCmd prints what this binary is.
type versionCmd struct {
	JSON bool `name:"json" help:"Print one JSON object."`
}

// build describes the running binary.
type build struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Run prints the build on one line.
func (c *versionCmd) Run(std stdio) error {
	b := thisBuild()
	if c.JSON {
		return json.NewEncoder(std.out).Encode(b)
	}
	_, err := fmt.Fprintln(std.out, b.Name, b.Version, b.Go, b.Platform)
	return err
}

// thisBuild describes this binary.
func thisBuild() build {
	b := build{
		Name:     "acsbridge",
		Version:  version,
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if b.Version != "" {
		return b
	}
	b.Version = "(unknown)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	return b
}

// versionFlag is --version, which does what the command does.
type versionFlag bool

// BeforeReset prints the version and ends the process; kong calls it when the flag is
// given, before anything else can be wrong.
func (versionFlag) BeforeReset(app *kong.Kong) error {
	if err := (&versionCmd{}).Run(stdio{out: app.Stdout}); err != nil {
		return err
	}
	app.Exit(0)
	return nil
}

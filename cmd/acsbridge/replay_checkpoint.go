package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/acsbridge/acsbridge/replay"
)

// checkpoint is how far a replay is, in a file.
type checkpoint struct {
	Replay   string `json:"replay"` // its id
	What     string `json:"what"`   // selection and target
	Before   int    `json:"before"` // events before Next, for --limit
	Complete bool   `json:"complete,omitzero"`

	// Where to go on and where it ends: a sequence, or a time.
	Next      uint64    `json:"next,omitzero"`
	NextTime  time.Time `json:"nextTime,omitzero"`
	Until     uint64    `json:"until,omitzero"`
	UntilTime time.Time `json:"untilTime,omitzero"`
}

// what says what a replay is about, so that a checkpoint is not used for another.
func (r *replaying) what() string {
	from := "stream " + r.Stream
	if r.From != "" {
		from = r.From
	}
	call := r.Call
	if r.Leg != "" {
		call += ", leg " + r.Leg
	}
	return fmt.Sprintf("%s, resource %q, type %q, call %q, since %q, until %q, limit %d, to %s, redacted %t",
		from, r.Resource, r.Type, call, r.Since, r.Until, r.Limit, r.target, r.Redact)
}

// resume takes up the replay that the checkpoint is of, if there is one.
func (r *replaying) resume() error {
	if r.Checkpoint == "" {
		return nil
	}
	text, err := os.ReadFile(r.Checkpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("--checkpoint: %w", err)
	}
	var c checkpoint
	switch err := json.Unmarshal(text, &c); {
	case err != nil:
		return fmt.Errorf("--checkpoint: %s is none: %w", r.Checkpoint, err)
	case c.What != r.what():
		return fmt.Errorf("--checkpoint: %s is of another replay (%s); take another file, or remove it", r.Checkpoint, c.What)
	case c.Complete || r.Limit > 0 && c.Before >= r.Limit:
		return fmt.Errorf("--checkpoint: %s says that this replay is complete; remove it to do it again", r.Checkpoint)
	}
	r.ReplayID, r.before, r.Append = c.Replay, c.Before, true
	r.selection.Since = replay.Position{Sequence: c.Next, Time: c.NextTime}
	r.selection.Until = replay.Position{Sequence: c.Until, Time: c.UntilTime}
	if r.Limit > 0 {
		r.selection.Limit = r.Limit - c.Before
	}
	fmt.Fprintf(r.std.err, "replay %s goes on at seq:%d\n", c.Replay, max(c.Next, 1))
	return nil
}

// keep writes the checkpoint. What it calls done is safe by then.
func (r *replaying) keep(complete bool) error {
	p := r.sender.Progress()
	if err := r.sender.Target.Flush(); err != nil {
		return err
	}
	next, until := r.selection.Since, r.selection.Until
	if p.Next > 0 {
		next = replay.Position{Sequence: p.Next}
	}
	c := checkpoint{
		Replay: r.ReplayID, What: r.what(), Before: r.before + p.Before, Complete: complete,
		Next: next.Sequence, NextTime: next.Time, Until: until.Sequence, UntilTime: until.Time,
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := replaceFile(r.Checkpoint, append(text, '\n')); err != nil {
		return fmt.Errorf("--checkpoint: %w", err)
	}
	return nil
}

// replaceFile writes a file whole or not at all.
func replaceFile(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".checkpoint-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(content)
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

// continuation is the command that goes on where a replay has ended, or "" when
// there is nothing to say.
func (r *replaying) continuation(p replay.Progress) string {
	left := r.Limit - p.Before
	if p.Next == 0 || r.Limit > 0 && left <= 0 {
		return ""
	}
	if r.Checkpoint != "" {
		return commandLine(r.args) // it says where
	}
	args := without(r.args, "--since", "--until", "--limit", "--replay-id", "--append")
	args = append(args, fmt.Sprintf("--since=seq:%d", p.Next), "--replay-id="+r.ReplayID)
	if until := r.selection.Until; until.Sequence > 0 {
		args = append(args, fmt.Sprintf("--until=seq:%d", until.Sequence))
	} else if !until.Time.IsZero() {
		args = append(args, "--until="+until.Time.Format(time.RFC3339Nano))
	}
	if r.Limit > 0 {
		args = append(args, fmt.Sprintf("--limit=%d", left))
	}
	if r.path != "" {
		args = append(args, "--append")
	}
	return commandLine(args)
}

// without leaves flags and their values out of a command line. A flag that is
// true or false has its value behind an equals sign, if at all.
func without(args []string, flags ...string) (kept []string) {
	for i := 0; i < len(args); i++ {
		name, _, joined := strings.Cut(args[i], "=")
		if !slices.Contains(flags, name) {
			kept = append(kept, args[i])
		} else if !joined && name != "--append" {
			i++
		}
	}
	return kept
}

// commandLine writes a command as a shell reads it. No flag has a secret in it.
func commandLine(args []string) string {
	var b strings.Builder
	b.WriteString("acsbridge")
	for _, arg := range args {
		b.WriteByte(' ')
		if strings.Trim(arg, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=:./,@%+") == "" && arg != "" {
			b.WriteString(arg)
		} else {
			b.WriteString("'" + strings.ReplaceAll(arg, "'", `'\''`) + "'")
		}
	}
	return b.String()
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/acsbridge/acsbridge/replay"
)

// openTarget opens what --to names.
func (r *replaying) openTarget(ctx context.Context) (replay.Target, func() error, error) {
	nothing := func() error { return nil }
	switch {
	case r.stdout:
		return replay.NewCapture(r.std.out), nothing, nil
	case r.path != "":
		file, err := openForCapture(r.path, r.Append)
		if err != nil {
			return nil, nil, err
		}
		return replay.NewCapture(file), file.Close, nil
	case r.url != nil:
		posts := &replay.Posts{URL: r.url, ID: r.ReplayID, Transport: newTransport(r.Concurrency)}
		token, stop, err := r.signer(r.std.err)
		if err != nil {
			return nil, nil, err
		}
		posts.Token = token
		return posts, stop, nil
	}
	copies := &replay.Copies{JetStream: r.reader.JetStream, ID: r.ReplayID, Prefix: r.prefix, Source: r.Stream, Live: r.IntoLive}
	return copies, nothing, r.consent(ctx)
}

// newTransport keeps a connection for each post that is under way.
func newTransport(posts int) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConns, t.MaxIdleConnsPerHost = posts, posts
	return t
}

// consent makes sure that copies go where they are wanted.
func (r *replaying) consent(ctx context.Context) error {
	if !r.IntoLive {
		return r.keepOut(ctx)
	}
	if r.Yes {
		return nil
	}
	return confirm(ctx, r.std, fmt.Sprintf("This publishes events again into %s of stream %s, where every consumer gets them.", r.prefix+".>", r.Stream))
}

// confirm asks a person. Without one it fails.
func confirm(ctx context.Context, std stdio, what string) error {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return errors.New("nobody can be asked here; add --yes")
	}
	fmt.Fprintf(std.err, "%s\nGo on? [yes/no] ", what)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n') // what cannot be read is no yes
		answer <- strings.TrimSpace(line)
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case word := <-answer:
		if word != "yes" {
			return errors.New("nothing was done")
		}
	}
	return nil
}

// keepOut refuses a prefix below which the stream of the events would store the
// copies too, as far as it can be looked at; otherwise the first
// acknowledgement tells.
func (r *replaying) keepOut(ctx context.Context) error {
	info, err := r.reader.Look(ctx)
	if err != nil {
		return ctx.Err()
	}
	for _, subject := range info.Config.Subjects {
		if overlap(subject, r.prefix+".>") {
			return fmt.Errorf("--to: stream %s has %s, so it would store the copies among the events; take another prefix, or --into-live if that is meant", r.Stream, subject)
		}
	}
	return nil
}

// overlap reports whether a subject can match both patterns.
func overlap(one, other string) bool {
	a, b := strings.Split(one, "."), strings.Split(other, ".")
	for i := 0; i < len(a) && i < len(b); i++ {
		switch {
		case a[i] == ">" || b[i] == ">":
			return true
		case a[i] != "*" && b[i] != "*" && a[i] != b[i]:
			return false
		}
	}
	return len(a) == len(b)
}

// openForCapture opens a file to write events to, which are personal data: for
// its owner alone. One that is there is added to only when that is asked for,
// behind its last whole line.
func openForCapture(path string, add bool) (*os.File, error) {
	if !add {
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("%s is there already; --append adds to it", path)
		}
		return file, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	end, err := lastLine(file)
	if err == nil {
		err = file.Truncate(end)
	}
	if err == nil {
		_, err = file.Seek(end, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// lastLine returns where the last line of a file ends that a killed process has
// written whole.
func lastLine(file *os.File) (int64, error) {
	end, err := file.Seek(0, io.SeekEnd)
	chunk := make([]byte, 64<<10)
	for err == nil && end > 0 {
		begin := max(end-int64(len(chunk)), 0)
		part := chunk[:end-begin]
		if _, err = file.ReadAt(part, begin); err != nil {
			break
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return begin + int64(i) + 1, nil
		}
		end = begin
	}
	return 0, err
}

// openCapture opens a file of events to send.
func openCapture(path string, selection replay.Selection) (source, error) {
	file, err := os.Open(path)
	if err != nil {
		return source{}, fmt.Errorf("--from: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return source{}, errors.Join(fmt.Errorf("--from: %w", err), file.Close())
	}
	messages := func(yield func(*replay.Message, error) bool) {
		for m, err := range replay.ReadCapture(file, selection) {
			if err != nil {
				err = fmt.Errorf("%s: %w", path, err)
			}
			if !yield(m, err) {
				return
			}
		}
	}
	done := func(uint64) float64 {
		at, err := file.Seek(0, io.SeekCurrent)
		if err != nil || info.Size() == 0 {
			return -1
		}
		return float64(at) / float64(info.Size())
	}
	return source{messages: messages, done: done, close: file.Close}, nil
}

// signFlags say how posts are signed.
type signFlags struct {
	SignWithSimulator bool   `help:"Sign each post as a simulated ACS, whose key server runs meanwhile."`
	IssuerListen      string `help:"Address of that key server." default:"127.0.0.1:8081" placeholder:"ADDR"`
	IssuerName        string `help:"Issuer of the tokens. None means the key server's URL; with --key of a running demo or simulate, theirs." placeholder:"URL"`
	Key               string `help:"File of its signing key, made when absent. None means a new key." placeholder:"FILE"`
	Audience          string `help:"Audience of its tokens. None means the demo resource's." placeholder:"GUID"`
}

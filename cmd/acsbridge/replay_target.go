package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/acsbridge/acsbridge/internal/webhook"
	"github.com/acsbridge/acsbridge/replay"
)

// openTarget opens what --to names.
func (r *replaying) openTarget(ctx context.Context) (replay.Target, func() error, error) {
	nothing := func() error { return nil }
	switch {
	case r.stdout:
		return replay.NewCapture(r.std.out), nothing, nil
	case r.path != "":
		file, last, err := openForCapture(r.path, r.Append)
		if err != nil {
			return nil, nil, err
		}
		if r.Checkpoint != "" {
			r.source.messages = behind(last, r.source.messages)
		}
		return replay.NewCapture(file), file.Close, nil
	case r.url != nil:
		posts := &replay.Posts{URL: r.url, ID: r.ReplayID, PostTruncated: r.PostTruncated, Client: webhook.Client{Transport: webhook.NewTransport(r.Concurrency)}}
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

// signFlags say how posts are signed.
type signFlags struct {
	SignWithSimulator bool   `help:"Sign each post as a simulated ACS, whose key server runs meanwhile."`
	IssuerListen      string `help:"Address of that key server." default:"127.0.0.1:8081" placeholder:"ADDR"`
	IssuerName        string `help:"Issuer of the tokens. None means the key server's URL; with --key of a running demo or simulate, theirs." placeholder:"URL"`
	Key               string `help:"File of its signing key, made when absent. None means a new key." placeholder:"FILE"`
	Audience          string `help:"Audience of its tokens. None means the demo resource's." placeholder:"GUID"`
}

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/internal/webhook"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/replay/resend"
)

// postFlags are for the commands that post events of the stream to a URL.
type postFlags struct {
	AppendPath    bool `help:"Add to the URL the path and the query that the callback had below the bridge's own. Without it every event is posted to exactly the URL."`
	PostTruncated bool `help:"With --append-path, post also events whose path or query was cut at its bound, to what is left of it. They are not posted without."`
	tlsFlag

	signFlags `group:"Tokens of a simulator, for a URL that asks for one:"`
}

// tlsFlag is for the commands that post to the application of a developer.
type tlsFlag struct {
	InsecureSkipTLSVerify bool `name:"insecure-skip-tls-verify" help:"Accept any certificate of the receiver. A receiver on loopback may have any without it."`
}

// signFlags say how posts are signed.
type signFlags struct {
	SignWithSimulator bool   `help:"Sign each post as a simulated ACS, whose key server runs meanwhile."`
	IssuerListen      string `help:"Address of that key server." default:"127.0.0.1:8081" placeholder:"ADDR"`
	IssuerName        string `help:"Issuer of the tokens. None means the key server's URL; with --key of a running demo or simulate, theirs." placeholder:"URL"`
	Key               string `help:"File of its signing key, made when absent. None means a new key." placeholder:"FILE"`
	Audience          string `help:"Audience of its tokens. None means the demo resource's." placeholder:"GUID"`
	EventGridAudience string `name:"eventgrid-audience" help:"Audience of its tokens for events of Event Grid. None means the demo application's." placeholder:"GUID"`
}

// posts returns the target that posts to a URL, and to another one or none for events of
// Event Grid. It is used until it is closed with stop.
func (f *postFlags) posts(log io.Writer, to, eventGrid *url.URL, requests int) (posts *resend.Posts, stop func() error, err error) {
	posts = &resend.Posts{
		URL: to, EventGrid: eventGrid, AppendPath: f.AppendPath, PostTruncated: f.PostTruncated,
		Client: webhook.Client{Transport: webhook.NewLocalTransport(requests, f.InsecureSkipTLSVerify)},
	}
	if !f.SignWithSimulator {
		return posts, func() error { return nil }, nil
	}
	simulate := simulateCmd{IssuerListen: f.IssuerListen, IssuerName: f.IssuerName, Key: f.Key}
	issuer, err := simulate.issuer(log)
	if err != nil {
		return nil, nil, err
	}
	audience := cmp.Or(f.Audience, acstest.DemoAudience)
	fmt.Fprintf(log, "posts are signed by %s for the audience %s; their keys are named by\n  %s\n", issuer.Name(), audience, issuer.MetadataURL())
	posts.Token = func(m *replay.StoredMessage) (string, error) {
		if m.EventGrid() {
			return issuer.Sign(acstest.GridToken(f.EventGridAudience))
		}
		return issuer.Sign(acstest.TokenSpec{Audience: audience})
	}
	return posts, issuer.Close, nil
}

// how says which URL an event is posted to.
func (f *postFlags) how() string {
	if f.AppendPath {
		return "with the path and query of each callback added"
	}
	return "exactly that URL; --append-path adds the path and query of each callback"
}

// parsePostURL reads the URL of a flag.
func parsePostURL(flag, text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%s %q is not a URL; write it like http://127.0.0.1:7071/api/callbacks", flag, text)
	case u.User != nil || u.Fragment != "":
		return nil, fmt.Errorf("%s must not hold a login or a fragment", flag)
	}
	return u, nil
}

// withoutQuery is a URL for people; its query can hold a key.
func withoutQuery(u *url.URL) string { return u.Scheme + "://" + u.Host + u.EscapedPath() }

// withoutEventGrid leaves out the events that Event Grid has delivered, and calls leftOut
// with each of them.
func withoutEventGrid(messages iter.Seq2[*replay.StoredMessage, error], leftOut func(*replay.StoredMessage)) iter.Seq2[*replay.StoredMessage, error] {
	return func(yield func(*replay.StoredMessage, error) bool) {
		for m, err := range messages {
			if err == nil && m.EventGrid() {
				leftOut(m)
				continue
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

// checkPost refuses flags that contradict each other. None of them is for a target that
// is not a URL.
func (f *postFlags) checkPost(toURL bool) error {
	for _, flag := range []struct {
		name string
		set  bool
	}{
		{"--append-path", f.AppendPath}, {"--post-truncated", f.PostTruncated},
		{"--insecure-skip-tls-verify", f.InsecureSkipTLSVerify}, {"--sign-with-simulator", f.SignWithSimulator},
	} {
		if flag.set && !toURL {
			return fmt.Errorf("%s is for a URL; set --to http://…", flag.name)
		}
	}
	if f.PostTruncated && !f.AppendPath {
		return errors.New("--post-truncated is for --append-path; add that")
	}
	return nil
}

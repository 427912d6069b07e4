package main

import (
	"cmp"
	"fmt"
	"io"

	"github.com/acsbridge/acsbridge/acstest"
)

// signFlags say how posts are signed.
type signFlags struct {
	SignWithSimulator bool   `help:"Sign each post as a simulated ACS, whose key server runs meanwhile."`
	IssuerListen      string `help:"Address of that key server." default:"127.0.0.1:8081" placeholder:"ADDR"`
	IssuerName        string `help:"Issuer of the tokens. None means the key server's URL; with --key of a running demo or simulate, theirs." placeholder:"URL"`
	Key               string `help:"File of its signing key, made when absent. None means a new key." placeholder:"FILE"`
	Audience          string `help:"Audience of its tokens. None means the demo resource's." placeholder:"GUID"`
}

// signer returns what makes tokens, or nil when none are wanted, and what ends
// it.
func (f *signFlags) signer(log io.Writer) (token func() (string, error), stop func() error, err error) {
	if !f.SignWithSimulator {
		return nil, func() error { return nil }, nil
	}
	simulate := simulateCmd{IssuerListen: f.IssuerListen, IssuerName: f.IssuerName, Key: f.Key}
	issuer, err := simulate.issuer(log)
	if err != nil {
		return nil, nil, err
	}
	audience := cmp.Or(f.Audience, acstest.DemoAudience)
	fmt.Fprintf(log, "posts are signed by %s for the audience %s; their keys are named by\n  %s\n", issuer.Name(), audience, issuer.MetadataURL())
	token = func() (string, error) { return issuer.Sign(acstest.TokenSpec{Audience: audience}) }
	return token, issuer.Close, nil
}

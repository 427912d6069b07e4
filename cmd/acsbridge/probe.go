package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/acsbridge/acsbridge/acstest"
	"github.com/acsbridge/acsbridge/cmd/acsbridge/internal/view"
	"github.com/acsbridge/acsbridge/internal/webhook"
)

// probeCmd tests how a webhook checks the tokens of its callbacks, without a bridge.
type probeCmd struct {
	URL string `arg:"" help:"URL of the webhook, such as http://localhost:3000/api/callback." placeholder:"URL"`

	Untrusted bool          `help:"The webhook trusts Microsoft's issuer alone, fixed in its code. Try what needs no trusted key: no token, and forged ones in Microsoft's name. Needs --audience."`
	Audience  string        `help:"Audience that the webhook expects: the immutable resource ID of its resource. None means the demo resource's." placeholder:"GUID"`
	Type      string        `help:"Type of the events." default:"ParticipantsUpdated" placeholder:"TYPE"`
	Skip      []string      `help:"Leave out this check, such as day-long. Repeatable." placeholder:"CHECK"`
	Wait      time.Duration `help:"Wait so long for the webhook to start." default:"10s" placeholder:"TIME"`
	JSON      bool          `name:"json" help:"Print the report as one JSON object."`
	tlsFlag

	IssuerListen string `group:"Key server, which the webhook must trust:" help:"Address of the key server." default:"127.0.0.1:8082" placeholder:"ADDR"`
	IssuerName   string `group:"Key server, which the webhook must trust:" help:"Issuer of the tokens. None means the key server's URL." placeholder:"URL"`
	Key          string `group:"Key server, which the webhook must trust:" help:"File of the signing key, made when absent. None means a new key." placeholder:"FILE"`

	target *url.URL
}

// Help is the text between the summary and the flags of probe --help.
func (probeCmd) Help() string {
	return `Posts good callbacks, which the webhook must accept (2xx), and bad ones, which it must refuse (401 or 403), to exactly the URL. ` +
		`Start the webhook with the issuer, the metadata URL and the audience that probe prints, in place of Microsoft's: it then asks probe for the keys. ` +
		`The exit status is 0 when every check passes.`
}

// Validate reads the URL; kong calls it.
func (c *probeCmd) Validate() (err error) {
	if c.Untrusted && c.Audience == "" {
		return errors.New("--untrusted needs --audience: the webhook would refuse another audience for that alone, whatever the signature is")
	}
	c.target, err = parsePostURL("the webhook", c.URL)
	return err
}

// probeOutput is the report for machines.
type probeOutput struct {
	Webhook     string `json:"webhook"`
	Issuer      string `json:"issuer"`
	MetadataURL string `json:"metadata_url"`
	Audience    string `json:"audience"`
	*acstest.ProbeReport
}

// Run makes the checks and prints a line for each.
func (c *probeCmd) Run(ctx context.Context, std stdio) error {
	simulate := simulateCmd{IssuerListen: c.IssuerListen, IssuerName: c.IssuerName, Key: c.Key, Audience: c.Audience}
	issuer, err := simulate.issuer(std.err)
	if err != nil {
		return err
	}
	defer issuer.Close()
	color := view.ColorFor(std.out)
	probe := acstest.Probe{
		Target: c.URL, Issuer: issuer, Audience: c.Audience, EventType: c.Type, Untrusted: c.Untrusted, Skip: c.Skip, Wait: c.Wait,
		Transport: webhook.NewLocalTransport(1, c.InsecureSkipTLSVerify),
	}
	if !c.JSON {
		probe.OnCheck = func(check acstest.ProbeCheck) { fmt.Fprintln(std.out, probeLine(color, check)) }
	}
	if !c.Untrusted {
		fmt.Fprintf(std.err, "%s must trust\n  issuer        %s\n  metadata URL  %s\n  audience      %s\n",
			withoutQuery(c.target), issuer.Name(), issuer.MetadataURL(), simulate.audience())
	}
	report, err := probe.Run(ctx)
	if errors.Is(err, context.Canceled) {
		return errors.New("stopped before the end")
	}
	if err != nil {
		return err
	}
	if c.JSON {
		output := probeOutput{withoutQuery(c.target), issuer.Name(), issuer.MetadataURL(), simulate.audience(), report}
		if err := json.NewEncoder(std.out).Encode(output); err != nil {
			return err
		}
	}
	return c.conclude(std.out, report)
}

// Colors of the verdicts.
var verdictColors = map[acstest.Verdict]string{acstest.Pass: view.Green, acstest.Fail: view.Red, acstest.Inconclusive: view.Yellow}

// probeLine is the line of a check.
func probeLine(color view.Color, c acstest.ProbeCheck) string {
	text := c.About
	switch answer := (webhook.Answer{Status: c.Status}); {
	case c.Verdict == acstest.Fail && answer.OK():
		text = c.Reason + ": " + c.About
	case c.Reason != "":
		text = c.Reason
	}
	status := fmt.Sprint(c.Status)
	if c.Status == 0 {
		status = "---"
	}
	return fmt.Sprintf("%s  %-16s  %s  %s", color.Paint(verdictColors[c.Verdict], fmt.Sprintf("%-12s", c.Verdict)), c.Name, status, text)
}

// conclude prints what the verdicts mean together, and returns an error unless all
// checks pass.
func (c *probeCmd) conclude(w io.Writer, report *acstest.ProbeReport) error {
	if c.JSON {
		w = io.Discard
	}
	failed, open := report.Count(acstest.Fail), report.Count(acstest.Inconclusive)
	fmt.Fprintf(w, "%d of %s passed", report.Count(acstest.Pass), view.Plural(len(report.Checks), "check"))
	if failed > 0 {
		fmt.Fprintf(w, ", %d failed", failed)
	}
	if open > 0 {
		fmt.Fprintf(w, ", %d inconclusive", open)
	}
	fmt.Fprintln(w)
	var err error
	switch {
	case failed > 0:
		err = fmt.Errorf("the webhook failed %s", view.Plural(failed, "check"))
	case open > 0:
		err = errors.New("the probe is inconclusive: the webhook does not trust its key server")
	}
	if c.Untrusted {
		fmt.Fprintln(w, "without a trusted key this shows neither that good callbacks are accepted\nnor that expired ones, or ones for another audience, are refused")
		return err
	}
	if report.Trusted {
		return err
	}
	fmt.Fprintln(w, "The webhook refuses good callbacks, too, so its other refusals prove nothing.")
	if report.KeyFetches == 0 {
		fmt.Fprintf(w, "It has not asked for the keys (metadata URL: %s, keys: %s).\n"+
			"Start it with the issuer, metadata URL and audience above in place of those of\n"+
			"Microsoft. If they are fixed in its code, forged tokens can be tried all the\n"+
			"same, with --untrusted --audience GUID.\n",
			view.Plural(report.MetadataFetches, "request"), view.Plural(report.KeyFetches, "request"))
	} else {
		fmt.Fprintln(w, "It has the keys: does it expect the issuer and the audience above?")
	}
	return err
}

package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/replay"
	"github.com/acsbridge/acsbridge/schemas"
)

// rightsCmd prints what a service needs in NATS, for an operator to paste.
type rightsCmd struct {
	Name     string   `arg:"" help:"Name of the service, as in consume.Service or deliver --name." placeholder:"NAME"`
	Type     []string `help:"The types of events that the service wants. Repeatable. None means all." placeholder:"TYPE"`
	Since    string   `help:"Where the service begins: as --since of deliver. Without it: new events." placeholder:"POSITION"`
	Replicas int      `help:"Replicas of the bucket and the dead-letter stream: those of the stream." default:"1" placeholder:"N"`
	Output   string   `help:"all, commands (of the nats command, for a shell), config (an account, for the server's configuration), or types (commands that give the consumers other types)." default:"all" enum:"all,commands,config,types" placeholder:"WHAT"`

	Account       string `help:"Account of the streams in the configuration." default:"STREAMS" placeholder:"ACCOUNT"`
	Domain        string `help:"JetStream domain under which the service reaches them." default:"acs" placeholder:"NAME"`
	Stream        string `help:"Stream with the events." default:"${stream}" placeholder:"NAME"`
	SubjectPrefix string `help:"First token of its subjects." default:"${prefix}" placeholder:"TOKEN"`

	startAt time.Time
	needs   *consume.Needs
}

// Help is the text between the summary and the flags of rights --help.
func (rightsCmd) Help() string {
	return `For NATS with accounts, where a service may make nothing itself. The operator runs the commands with a login of the ` +
		`streams' account, and includes the configuration in "accounts" of the server's. In the one account of a server without logins nothing of this is needed.`
}

// Validate checks the settings; kong calls it.
func (c *rightsCmd) Validate() (err error) {
	if c.Name == "" {
		return errors.New("NAME is missing: acsbridge rights NAME")
	}
	for _, t := range c.Type {
		if _, known := schemas.LookupType(t); !known {
			return fmt.Errorf("--type: %s acsbridge events lists the known ones", unknownType(t))
		}
	}
	for _, name := range []struct{ flag, value string }{{"account", c.Account}, {"domain", c.Domain}, {"stream", c.Stream}, {"subject-prefix", c.SubjectPrefix}} {
		if !schemas.ValidToken(name.value) {
			return fmt.Errorf("--%s: %q is not a usable name; take 1 to 64 letters, digits, _ or -", name.flag, name.value)
		}
	}
	if c.Replicas < 1 || c.Replicas > 5 {
		return errors.New("--replicas must be from 1 to 5")
	}
	if c.startAt, err = parseStart(c.Since); err != nil {
		return err
	}
	service := consume.Service[struct{}]{Name: c.Name, Types: c.Type, Stream: c.Stream, Prefix: c.SubjectPrefix, StartAt: c.startAt}
	c.needs, err = service.Needs(c.Replicas)
	return err
}

// parseStart reads where a service begins; the zero time is new events.
func parseStart(since string) (time.Time, error) {
	switch since {
	case "":
		return time.Time{}, nil
	case "all":
		return time.Unix(0, 0), nil
	}
	position, err := replay.ParsePosition(since, time.Now())
	if err != nil || position.Sequence != 0 {
		return time.Time{}, fmt.Errorf("--since: %q is not a duration such as 10m, a time such as 2026-03-01T14:30, or all", since)
	}
	return position.Time, nil
}

// Run prints them.
func (c *rightsCmd) Run(std stdio) error {
	var b strings.Builder
	switch c.Output {
	case "all":
		c.commands(&b)
		b.WriteString("\n")
		c.config(&b)
	case "commands":
		c.commands(&b)
	case "config":
		c.config(&b)
	case "types":
		c.types(&b)
	}
	_, err := io.WriteString(std.out, b.String())
	return err
}

// hexSlots are the slots of a stream.
const hexSlots = "0 1 2 3 4 5 6 7 8 9 a b c d e f"

// commands writes the commands that make what the service needs, once more without harm.
func (c *rightsCmd) commands(b *strings.Builder) {
	bucket, dead := c.needs.Bucket, c.needs.DeadLetters
	fmt.Fprintf(b, "# What service %s needs, for a shell: with a login of account %s that may make streams.\n", c.Name, c.Account)
	fmt.Fprintf(b, "nats kv add %s --description '%s' --history %d --storage file \\\n  --marker-ttl %s --replicas %d\n",
		bucket.Bucket, bucket.Description, bucket.History, hoursMinutes(bucket.LimitMarkerTTL), bucket.Replicas)
	fmt.Fprintf(b, "nats stream add %s --description '%s' --subjects '%s' \\\n"+
		"  --storage file --retention limits --discard old --max-age %s --dupe-window %s --allow-direct \\\n  --replicas %d --defaults\n",
		dead.Name, dead.Description, dead.Subjects[0], hoursMinutes(dead.MaxAge), hoursMinutes(dead.Duplicates), dead.Replicas)

	consumer := c.needs.Consumers[0]
	fmt.Fprintf(b, "for slot in %s; do\n  nats consumer add %s %s --description \"%s\" \\\n"+
		"    --pull --ack all --wait %s --max-deliver=-1 --max-pending=%d --deliver %s --replay instant",
		hexSlots, c.Stream, ofSlot(consumer.Durable, "-", ""), ofSlot(consumer.Description, "Slot ", " of"), hoursMinutes(consumer.AckWait), maxPending, deliverPolicy(consumer))
	c.filters(b)
	b.WriteString(" --defaults\ndone\n")
}

// maxPending stands for "no limit", which the nats command cannot say. A service has at
// most some hundred unacknowledged events a slot.
const maxPending = 100_000

// types writes the commands after which the consumers have other types.
func (c *rightsCmd) types(b *strings.Builder) {
	fmt.Fprintf(b, "# Other types for service %s, with a login of account %s. Events of a new type come from now on.\n", c.Name, c.Account)
	fmt.Fprintf(b, "for slot in %s; do\n  nats consumer edit %s %s --force", hexSlots, c.Stream, ofSlot(c.needs.Consumers[0].Durable, "-", ""))
	c.filters(b)
	b.WriteString("\ndone\n")
}

func (c *rightsCmd) filters(b *strings.Builder) {
	consumer := c.needs.Consumers[0]
	for _, filter := range append(slices.Clone(consumer.FilterSubjects), consumer.FilterSubject) {
		if filter != "" {
			fmt.Fprintf(b, " \\\n    --filter \"%s\"", ofSlot(filter, ".", ".*"))
		}
	}
}

// ofSlot returns a text about the first slot, between two others, as one about $slot.
func ofSlot(text, before, after string) string {
	first := hexSlots[:1]
	at := strings.LastIndex(text, before+first+after)
	return text[:at] + before + "$slot" + text[at+len(before+first):]
}

// hoursMinutes is a duration without minutes and seconds that are zero.
func hoursMinutes(d time.Duration) string {
	text := d.String()
	for _, unit := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, unit) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// deliverPolicy is that of a consumer, as the nats command takes it.
func deliverPolicy(c jetstream.ConsumerConfig) string {
	switch {
	case c.OptStartTime == nil:
		return "new"
	case c.OptStartTime.Unix() == 0:
		return "all"
	}
	return time.Since(*c.OptStartTime).Round(time.Second).String()
}

// sharedExports are those of the streams' account that serve all services. An account
// has no more of them than it imports, and only the operator writes that.
const sharedExports = `#   { service: "$JS.API.STREAM.INFO.*" }
#   { service: "$JS.API.STREAM.MSG.GET.*" }
#   { service: "$JS.API.DIRECT.GET.*", response_type: stream }
#   { service: "$JS.API.CONSUMER.INFO.*.*" }
#   { service: "$JS.API.CONSUMER.MSG.NEXT.*.*", response_type: stream }
#   { service: "$JS.API.CONSUMER.RESET.*.*" }
#   { service: "$JS.ACK.>" }
#   { service: "$KV.*.>" }
#   { service: "acs-dead.*.>" }
`

// config writes the account of the service.
func (c *rightsCmd) config(b *strings.Builder) {
	account := "SERVICE_" + strings.ToUpper(c.Name)
	fmt.Fprintf(b, "# The account of service %s, for \"accounts\" of the server's configuration. In it JetStream\n# has the domain %s: Domain of consume.Service, --nats-domain of deliver.\n", c.Name, c.Domain)
	fmt.Fprintf(b, "# Account %s needs these exports, once for all services; deploy/nats/accounts.conf has them:\n%s", c.Account, sharedExports)
	fmt.Fprintf(b, "%s {\n  users: [{ user: %s, password: $%s_PASSWORD }]\n  imports: [\n", account, c.Name, strings.ReplaceAll(account, "-", "_"))
	for _, subject := range c.needs.Publish {
		to := ""
		if api, ok := strings.CutPrefix(subject, jetstream.DefaultAPIPrefix); ok {
			to = fmt.Sprintf(`, to: "$JS.%s.API.%s"`, c.Domain, api)
		} else if strings.HasPrefix(subject, "$KV.") {
			to = fmt.Sprintf(`, to: "$JS.%s.API.%s"`, c.Domain, subject)
		}
		fmt.Fprintf(b, "    { service: { account: %s, subject: \"%s\" }%s }\n", c.Account, subject, to)
	}
	b.WriteString("  ]\n}\n")
}

package fakenats_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/fakenats"
	"github.com/acsbridge/acsbridge/internal/natstest"
)

// question is a request, and what it is asked for.
type question struct {
	about, subject, body string
	header               nats.Header
	many                 bool // the answers end with a status
}

func config(change func(*jetstream.StreamConfig)) string {
	c := jetstream.StreamConfig{
		Name: "ACS", Subjects: []string{"acs.>"}, Storage: jetstream.FileStorage, Replicas: 1,
		MaxBytes: -1, Duplicates: time.Minute, AllowDirect: true,
	}
	change(&c)
	b, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func id(values ...string) nats.Header {
	h := nats.Header{"ce-id": {"grüße", "two"}}
	for i, name := range []string{jetstream.MsgIDHeader, jetstream.ExpectedStreamHeader}[:len(values)] {
		h[name] = []string{values[i]}
	}
	return h
}

func get(about, body string) question {
	return question{about: about, subject: "$JS.API.DIRECT.GET.ACS", body: body, many: strings.Contains(body, "batch")}
}

// questions are asked one after another.
func questions() []question {
	same := func(*jetstream.StreamConfig) {}
	return []question{
		{about: "a stream that is not there", subject: "$JS.API.STREAM.INFO.ACS"},
		{about: "publish before there is a stream", subject: "acs.a.x", body: "1", header: id("1")},
		{about: "direct get before there is a stream", subject: "$JS.API.DIRECT.GET.ACS", body: `{"seq":1}`},
		{about: "change a stream that is not there", subject: "$JS.API.STREAM.UPDATE.ACS", body: config(same)},
		{about: "create", subject: "$JS.API.STREAM.CREATE.ACS", body: config(same)},
		{about: "create again", subject: "$JS.API.STREAM.CREATE.ACS", body: config(same)},
		{about: "create otherwise", subject: "$JS.API.STREAM.CREATE.ACS", body: config(func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour })},
		{about: "change", subject: "$JS.API.STREAM.UPDATE.ACS", body: config(func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour })},
		get("from an empty stream", `{"seq":1}`),
		get("a batch from an empty stream", `{"seq":1,"batch":3}`),
		{about: "publish", subject: "acs.a.x", body: "1", header: id("1", "ACS")},
		{about: "publish another", subject: "acs.b.x", body: "2", header: id("2", "ACS")},
		{about: "publish again", subject: "acs.a.x", body: "1", header: id("1", "ACS")},
		{about: "publish to another stream", subject: "acs.a.x", body: "3", header: id("3", "OTHER")},
		{about: "publish without an id", subject: "acs.a.y", body: "4", header: id()},
		{about: "publish without headers", subject: "acs.a.x", body: "5"},
		{about: "publish where no stream is", subject: "other.a", body: "6", header: id("6", "ACS")},
		{about: "a stream", subject: "$JS.API.STREAM.INFO.ACS"},
		get("a sequence", `{"seq":2}`),
		get("a message without headers", `{"seq":4}`),
		get("a sequence that is not there", `{"seq":9}`),
		get("the next on a subject", `{"seq":2,"next_by_subj":"acs.a.x"}`),
		get("the next under a pattern", `{"next_by_subj":"acs.*.y"}`),
		get("no next", `{"seq":4,"next_by_subj":"acs.b.x"}`),
		get("the last on a subject", `{"last_by_subj":"acs.a.x"}`),
		{about: "the last, by subject", subject: "$JS.API.DIRECT.GET.ACS.acs.a.x"},
		{about: "no last, by subject", subject: "$JS.API.DIRECT.GET.ACS.acs.c.x"},
		get("nothing", `{}`),
		get("no JSON", `{`),
		get("two at a time", `{"seq":2,"last_by_subj":"acs.a.x"}`),
		get("a batch", `{"seq":1,"batch":2}`),
		get("a batch to the end", `{"seq":2,"batch":10}`),
		get("a batch of just what is left", `{"seq":2,"batch":3}`),
		get("a batch of one", `{"seq":4,"batch":1}`),
		get("a batch on a subject", `{"seq":1,"batch":10,"next_by_subj":"acs.a.x"}`),
		get("a batch under a pattern", `{"seq":2,"batch":1,"next_by_subj":"acs.*.x"}`),
		get("a batch since a time", `{"batch":3,"start_time":"2020-01-01T00:00:00Z"}`),
		get("a batch since later", `{"batch":3,"start_time":"2200-01-01T00:00:00Z"}`),
		get("a batch behind the end", `{"seq":9,"batch":3}`),
		get("a batch of few bytes", `{"seq":1,"batch":3,"max_bytes":1}`),
		get("a batch of last messages", `{"last_by_subj":"acs.a.x","batch":3}`),
		{about: "direct get from another stream", subject: "$JS.API.DIRECT.GET.OTHER", body: `{"seq":1}`},
	}
}

// The model is worth something as long as it answers like a nats-server.
func TestServer_answersLikeNATS(t *testing.T) {
	real, err := nats.Connect(natstest.Start(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	defer real.Close()
	server := fakenats.New(fakenats.Options{})
	model, err := nats.Connect("", nats.InProcessServer(server.Client("test")))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	defer model.Close()
	for _, q := range questions() {
		want, got := ask(t, real, q), ask(t, model, q)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-server +model):\n%s", q.about, diff)
		}
	}
	if unknown := server.Unknown(); len(unknown) > 0 {
		t.Errorf("not known to the model: %q", unknown)
	}
}

// ask returns the answers to a question, without what differs from run to run.
func ask(t *testing.T, nc *nats.Conn, q question) (answers []string) {
	t.Helper()
	messages := make(chan *nats.Msg, 10)
	sub, err := nc.ChanSubscribe(nc.NewInbox(), messages)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishMsg(&nats.Msg{Subject: q.subject, Reply: sub.Subject, Header: q.header, Data: []byte(q.body)}); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case m := <-messages:
			answers = append(answers, plain(m))
			if q.many && m.Header.Get("Status") == "" {
				continue
			}
			if err := sub.Unsubscribe(); err != nil {
				t.Fatal(err)
			}
			return answers
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: no answer after %q", q.about, answers)
		}
	}
}

// plain writes down what matters of an answer.
func plain(m *nats.Msg) string {
	var lines []string
	for name, values := range m.Header {
		if name == jetstream.TimeStampHeaer {
			if _, err := time.Parse(time.RFC3339Nano, values[0]); err == nil {
				values = []string{"a time"}
			}
		}
		lines = append(lines, fmt.Sprintf("%s: %q", name, values))
	}
	slices.Sort(lines)
	var info struct {
		Type   string
		Error  *jetstream.APIError
		Config *jetstream.StreamConfig
		State  jetstream.StreamState
	}
	if err := json.Unmarshal(m.Data, &info); err != nil || info.Config == nil && info.Error == nil {
		return strings.Join(append(lines, strings.ReplaceAll(string(m.Data), `: `, `:`)), "\n")
	}
	if e := info.Error; e != nil {
		return fmt.Sprintf("%s\nerror %d, %d: %s", strings.Join(lines, "\n"), e.Code, e.ErrorCode, e.Description)
	}
	c, s := info.Config, info.State
	return fmt.Sprintf("%s %s %s %v %v %v %d from %d to %d", info.Type, c.Name, c.Subjects, c.Duplicates, c.MaxAge, c.AllowDirect, s.Msgs, s.FirstSeq, s.LastSeq)
}

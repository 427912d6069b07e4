package check_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/bridgetest"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// TestRun_natsConnection makes the faults of the way to NATS.
func TestRun_natsConnection(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		server func(*natsserver.Options)
		args   func(t *testing.T) []string
		want   want
		also   []string
	}{
		"nothing listens": {
			args: func(t *testing.T) []string { return []string{"--nats-url=nats://" + bridgetest.FreeAddress(t)} },
			want: want{"nats", "fail", "no connection: .*connection refused", "is NATS running there"},
		},
		"wrong password": {
			server: func(o *natsserver.Options) { o.Username, o.Password = "bridge", "secret" },
			args: func(t *testing.T) []string {
				return []string{"--nats-user=bridge", "--nats-password-file=" + bridgetest.WriteFile(t, "password", "other")}
			},
			want: want{"nats", "fail", "no connection: .*(?i)authorization", "check the login"},
		},
		"unusable credentials": {
			args: func(t *testing.T) []string {
				return []string{"--nats-creds=" + bridgetest.WriteFile(t, "user.creds", "not credentials")}
			},
			want: want{"nats", "fail", "no nkey seed found", "check the login: .*--nats-creds"},
		},
		"JetStream off": {
			server: func(o *natsserver.Options) { o.JetStream = false },
			want:   want{"stream", "fail", "stream ACS cannot be looked at", "JetStream is off"},
			also:   []string{"stream", "quarantine"},
		},
		"another domain": {
			args: func(*testing.T) []string { return []string{"--nats-domain=hub"} },
			want: want{"stream", "fail", "stream ACS cannot be looked at", "--nats-domain"},
			also: []string{"stream", "quarantine"},
		},
		"small max_payload": {
			server: func(o *natsserver.Options) { o.MaxPayload = 64 << 10 },
			want:   want{"nats", "warn", "max_payload of the server is 65536 bytes", "raise it"},
		},
		"one server for three replicas": {
			args: func(*testing.T) []string { return []string{"--stream-replicas=3"} },
			want: want{"nats", "fail", "--stream-replicas 3, and this NATS is one server", "--stream-replicas 1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var args []string
			if test.args != nil {
				args = test.args(t)
			}
			if test.server != nil {
				args = append(args, "--nats-url="+natstest.Start(t, test.server).URL())
			}
			expect(t, healthy(t, args...).check(), test.want, test.also...)
		})
	}
}

// limited starts a server whose account has limits.
func limited(t *testing.T, limits natsserver.JetStreamAccountLimits) *natstest.Server {
	t.Helper()
	account := natsserver.NewAccount("bridge")
	server := natstest.Start(t, func(o *natsserver.Options) {
		o.Accounts = []*natsserver.Account{account}
		o.Users = []*natsserver.User{{Username: "bridge", Password: "p", Account: account}}
		o.NoAuthUser = "bridge"
	})
	server.LimitAccount("bridge", limits)
	return server
}

// TestRun_accountLimits makes accounts too small for the streams that serve would make.
func TestRun_accountLimits(t *testing.T) {
	t.Parallel()
	const unlimited = -1
	for name, test := range map[string]struct {
		limits natsserver.JetStreamAccountLimits
		found  string
	}{
		"streams": {natsserver.JetStreamAccountLimits{MaxMemory: unlimited, MaxStore: unlimited, MaxStreams: 1, MaxConsumers: unlimited}, "the account may have 1 stream and has 0; 2 more"},
		"store":   {natsserver.JetStreamAccountLimits{MaxMemory: unlimited, MaxStore: 64 << 20, MaxStreams: unlimited, MaxConsumers: unlimited}, "the streams to be made may take 256 MiB, and the account has 64 MiB left"},
		"bound":   {natsserver.JetStreamAccountLimits{MaxMemory: unlimited, MaxStore: unlimited, MaxStreams: unlimited, MaxConsumers: unlimited, MaxBytesRequired: true}, "the account wants a bound for each stream"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := limited(t, test.limits)
			expect(t, healthy(t, "--nats-url="+server.URL()).check(), want{"nats", "fail", test.found, "."})
		})
	}
}

// TestRun_accountFull fills an account.
func TestRun_accountFull(t *testing.T) {
	t.Parallel()
	server := limited(t, natsserver.JetStreamAccountLimits{MaxMemory: -1, MaxStore: 320 << 20, MaxStreams: -1, MaxConsumers: -1})
	makeStreams(t, server, nil)
	server.LimitAccount("bridge", natsserver.JetStreamAccountLimits{MaxMemory: -1, MaxStore: 1 << 20, MaxStreams: -1, MaxConsumers: -1})
	js := server.JetStream()
	for i := range 4 {
		if _, err := js.Publish(t.Context(), fmt.Sprintf("acs.demo.T.0.%d", i), make([]byte, 240<<10)); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, healthy(t, "--nats-url="+server.URL()).check(), want{"nats", "warn", "the account has used 9. % of", "raise its limit"})
}

// TestRun_missingRights takes one right after the other away.
func TestRun_missingRights(t *testing.T) {
	t.Parallel()
	for denied, test := range map[string]struct {
		want want
		args []string
		also string
	}{
		"acs.>":                             {want{"stream", "fail", "a publish is refused: .*(?i)permissions violation", "give this login the right"}, nil, ""},
		"acs-quarantine.>":                  {want{"quarantine", "fail", "a publish is refused: .*(?i)permissions violation", "give this login the right"}, nil, ""},
		"$JS.API.STREAM.INFO.ACS":           {want{"stream", "fail", `cannot be looked at: .*STREAM\.INFO\.ACS`, "give this login the right"}, nil, "stream"},
		"$JS.API.DIRECT.GET.ACS":            {want{"stream", "warn", `direct get fails: .*DIRECT\.GET\.ACS`, "give this login the right"}, nil, ""},
		"$JS.API.DIRECT.GET.ACS_QUARANTINE": {want{"quarantine", "warn", `direct get fails`, "give this login the right"}, nil, ""},
		"$JS.API.STREAM.UPDATE.ACS":         {want{"stream", "warn", `--stream-update would be refused: .*STREAM\.UPDATE`, "give this login the right"}, []string{"--stream-update", "--stream-max-age=24h"}, "stream"},
	} {
		t.Run(denied, func(t *testing.T) {
			t.Parallel()
			server := natstest.Start(t, func(o *natsserver.Options) {
				o.Users = []*natsserver.User{{Username: "operator", Password: "p"}, {Username: "bridge", Password: "p", Permissions: &natsserver.Permissions{
					Publish: &natsserver.SubjectPermission{Deny: []string{denied}},
				}}}
				o.NoAuthUser = "operator"
			})
			makeStreams(t, server, nil)
			args := append([]string{"--nats-url=" + server.URL(), "--nats-user=bridge", "--nats-password-file=" + bridgetest.WriteFile(t, "password", "p")}, test.args...)
			also := []string{test.also}
			if test.args != nil {
				also = append(also, "quarantine") // differs as well
			}
			expect(t, healthy(t, args...).check(), test.want, also...)
		})
	}
}

// TestRun_streamDiffers spoils the stream. What is not changed by --stream-update shows
// that check changes nothing.
func TestRun_streamDiffers(t *testing.T) {
	t.Parallel()
	const anew = "^no update of a stream changes it: make the stream anew" // --stream-update would do nothing
	for name, test := range map[string]struct {
		change func(*jetstream.StreamConfig)
		want   want
	}{
		"max age":          {func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, want{"stream", "warn", "max age: has 1h0m0s, configured 72h0m0s", "--stream-update"}},
		"duplicate window": {func(c *jetstream.StreamConfig) { c.Duplicates = time.Minute }, want{"stream", "warn", "duplicate window: has 1m0s", "--stream-update"}},
		"direct get":       {func(c *jetstream.StreamConfig) { c.AllowDirect = false }, want{"stream", "warn", "direct get: has false", "--stream-update"}},
		"interest":         {func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy }, want{"stream", "fail", "retention: has Interest", "--stream-update"}},
		"work queue":       {func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }, want{"stream", "fail", "retention: has WorkQueue", anew}},
		"memory":           {func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, want{"stream", "fail", "storage: has Memory", anew}},
		"async":            {func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode }, want{"stream", "fail", "persist mode: has async", anew}},
		"counter":          {func(c *jetstream.StreamConfig) { c.AllowMsgCounter = true }, want{"stream", "fail", "message counter: has true", anew}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := healthy(t, "--stream-update")
			makeStreams(t, s.server, test.change)
			expect(t, s.check(), test.want)
			expect(t, s.check(), test.want)
		})
	}
}

// TestRun_otherStream has another stream take the same subjects, so that serve cannot make
// its own.
func TestRun_otherStream(t *testing.T) {
	t.Parallel()
	s := healthy(t)
	natstest.CreateStream(t, s.server.JetStream(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"acs.>"}})
	expect(t, s.check(), want{"stream", "fail", "stream ACS does not exist, and serve cannot make it: stream OTHER takes acs.> already", "--subject-prefix"})
}

// TestRun_consumers has services fetch more than they handle.
func TestRun_consumers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config jetstream.ConsumerConfig
		fetch  int
		handle time.Duration // pause between two messages; zero handles none
		want   want
	}{
		"delivered again": {jetstream.ConsumerConfig{AckWait: 200 * time.Millisecond}, 50, 0, want{"consumers", "warn", `slow: \d+ of its 50 outstanding messages were delivered again`, "fetch fewer"}},
		"slow":            {jetstream.ConsumerConfig{AckWait: 5 * time.Second}, 400, 50 * time.Millisecond, want{"consumers", "warn", `slow: has fetched \d+ messages, and handles about \d+ within its ack wait of 5s`, "fetch fewer"}},
		"stuck":           {jetstream.ConsumerConfig{AckWait: time.Minute, MaxAckPending: 10}, 10, 0, want{"consumers", "warn", `slow: 10 messages are outstanding, which is its max_ack_pending`, "handle faster"}},
		"fine":            {jetstream.ConsumerConfig{AckWait: time.Minute}, 10, 20 * time.Millisecond, want{"consumers", "ok", "1 consumer without a fault", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := healthy(t)
			makeStreams(t, s.server, nil)
			js := s.server.JetStream()
			for i := range test.fetch {
				if _, err := js.Publish(t.Context(), fmt.Sprintf("acs.demo.T.0.%d", i), nil); err != nil {
					t.Fatal(err)
				}
			}
			test.config.Durable = "slow"
			consumer, err := js.CreateConsumer(t.Context(), schemas.Stream, test.config)
			if err != nil {
				t.Fatal(err)
			}
			fetchAndHandle(t, consumer, test.fetch, test.handle)
			if test.want.level == "warn" && test.handle == 0 && test.config.MaxAckPending == 0 { // until they come again
				again, err := consumer.Fetch(test.fetch, jetstream.FetchMaxWait(5*time.Second))
				if err != nil {
					t.Fatal(err)
				}
				for range again.Messages() { // and are not handled
				}
			}
			expect(t, s.check(), test.want)
		})
	}
}

// fetchAndHandle fetches messages, and has them acknowledged one after the other while the
// test goes on.
func fetchAndHandle(t *testing.T, consumer jetstream.Consumer, n int, pause time.Duration) {
	t.Helper()
	batch, err := consumer.Fetch(n, jetstream.FetchMaxWait(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	var messages []jetstream.Msg
	for m := range batch.Messages() {
		messages = append(messages, m)
	}
	if len(messages) != n {
		t.Fatalf("fetched %d, want %d", len(messages), n)
	}
	if pause == 0 {
		return
	}
	go func() {
		for _, m := range messages {
			select {
			case <-time.After(pause):
				_ = m.Ack()
			case <-t.Context().Done():
				return
			}
		}
	}()
}

// TestRun_cluster stops one of three servers.
func TestRun_cluster(t *testing.T) {
	t.Parallel()
	servers, urls := cluster(t)
	js := natstest.JetStream(t, urls)
	natstest.Until(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		for name, subjects := range map[string]string{schemas.Stream: "acs.>", schemas.QuarantineStream: "acs-quarantine.>"} {
			config := jetstream.StreamConfig{Name: name, Subjects: []string{subjects}, Replicas: 3, AllowDirect: true, MaxAge: 72 * time.Hour, Duplicates: 10 * time.Minute}
			if name == schemas.QuarantineStream {
				config.MaxBytes = 256 << 20
			}
			if _, err := js.CreateStream(ctx, config); err != nil {
				return false
			}
		}
		return true
	})
	s := healthy(t, "--nats-url="+urls, "--stream-replicas=3")
	natstest.Until(t, func() bool { r := s.check(); return r.Warnings+r.Failures == 0 })
	if text := list(s.check()); !strings.Contains(text, "stream ok: 3 replicas: n") {
		t.Error(text)
	}
	stream, err := js.Stream(t.Context(), schemas.Stream)
	if err != nil {
		t.Fatal(err)
	}
	for i, server := range servers { // one that is not the leader
		if fmt.Sprint("n", i) != stream.CachedInfo().Cluster.Leader {
			server.Stop()
			break
		}
	}
	offline := want{"stream", "warn", "replica n. of stream ACS is offline", "bring that server back"}
	natstest.Until(t, func() bool { return strings.Contains(list(s.check()), "of stream ACS is offline") })
	expect(t, s.check(), offline, "quarantine")
}

// cluster starts three servers that are one.
func cluster(t *testing.T) (servers []*natstest.Server, urls string) {
	t.Helper()
	var routes []*url.URL
	var ports []int
	for range 3 {
		address := bridgetest.FreeAddress(t)
		resolved, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		ports, routes = append(ports, resolved.Port), append(routes, &url.URL{Scheme: "nats", Host: address})
	}
	var all []string
	for i := range 3 {
		s := natstest.Start(t, func(o *natsserver.Options) {
			o.ServerName = fmt.Sprint("n", i)
			o.Cluster = natsserver.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[i]}
			o.Routes = routes
		})
		servers, all = append(servers, s), append(all, s.URL())
	}
	return servers, strings.Join(all, ",")
}

// TestRun_consoleLogin makes the faults of the console's login.
func TestRun_consoleLogin(t *testing.T) {
	t.Parallel()
	s := healthy(t, "--nats-url="+natstest.Start(t, func(o *natsserver.Options) {
		deny := &natsserver.SubjectPermission{Deny: []string{"$JS.API.DIRECT.GET.ACS"}}
		o.Users = []*natsserver.User{
			{Username: "acsbridge", Password: "x"}, {Username: "viewer", Password: "x"}, {Username: "other", Password: "x", Permissions: &natsserver.Permissions{Publish: deny}},
		}
	}).URL(), "--nats-user=acsbridge", "--nats-password-file="+bridgetest.WriteFile(t, "password", "x"))
	expect(t, s.check(consoleLogin(t, "viewer", "wrong")...),
		want{"console", "warn", "no connection: .*Authorization Violation", "check the login: --console-nats-user and --console-nats-password-file"})
	r := s.check(consoleLogin(t, "other", "x")...)
	expectHealthy(t, r)
	if text := list(r); !strings.Contains(text, "console ok: the login in console-nats-user works; there is no stream ACS to read yet") {
		t.Error(text)
	}
	s.running()
	expect(t, s.check(consoleLogin(t, "other", "x")...),
		want{"console", "warn", `the login in console-nats-user cannot read the stream: .*(?i)permissions violation.*DIRECT\.GET\.ACS`, "give this login the right to it"})
}

// consoleLogin are the arguments for a login of the console.
func consoleLogin(t *testing.T, user, password string) []string {
	t.Helper()
	return []string{"--console-nats-user=" + user, "--console-nats-inbox-prefix=_INBOX_" + user, "--console-nats-password-file=" + bridgetest.WriteFile(t, "console-password", password)}
}

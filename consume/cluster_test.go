package consume_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/consume"
	"github.com/acsbridge/acsbridge/internal/natstest"
	"github.com/acsbridge/acsbridge/schemas"
)

// newCluster starts three servers that are a cluster.
func newCluster(t *testing.T) (servers []*natstest.Server, urls string) {
	t.Helper()
	var routes []*url.URL
	var ports []int
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		routes = append(routes, &url.URL{Scheme: "nats", Host: l.Addr().String()})
		l.Close()
	}
	var all []string
	for i := range 3 {
		s := natstest.Start(t, func(o *server.Options) {
			o.ServerName = fmt.Sprint("n", i)
			o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[i]}
			o.Routes = routes
		})
		servers, all = append(servers, s), append(all, s.URL())
	}
	return servers, strings.Join(all, ",")
}

// TestRun_cluster restarts the servers of a cluster one after the other, so that leaders
// change, while three replicas handle calls. Order and state of each call hold.
func TestRun_cluster(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	servers, urls := newCluster(t)
	js := natstest.JetStream(t, urls)
	natstest.Until(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{
			Name: schemas.Stream, Subjects: []string{"acs.>"}, AllowDirect: true, Replicas: 3, Duplicates: 10 * time.Minute,
		})
		return err == nil
	})
	const calls, events = 40, 12
	var mu sync.Mutex
	begun := make(map[string][]string)
	service := consume.Service[tally]{
		Name: "cluster", Lease: 5 * time.Second, StartAt: time.Unix(1, 0), HandleStale: true,
		Handle: func(_ context.Context, call *consume.Call[tally], m *schemas.Message) error {
			mu.Lock()
			begun[call.ID] = append(begun[call.ID], m.Event.ID)
			mu.Unlock()
			call.State.Events = append(call.State.Events, m.Event.ID)
			return nil
		},
	}
	for range 3 {
		start(t, urls, service)
	}
	ready(t, js, "cluster")
	var sending sync.WaitGroup
	sending.Go(func() {
		for i := range events {
			for c := range calls {
				m := newEvent("PlayCompleted", fmt.Sprint("call-", c), fmt.Sprintf("%02d", i), nil)
				for _, err := js.PublishMsg(t.Context(), m); err != nil && t.Context().Err() == nil; _, err = js.PublishMsg(t.Context(), m) {
					<-time.After(50 * time.Millisecond)
				}
			}
			<-time.After(300 * time.Millisecond)
		}
	})
	for _, s := range servers {
		<-time.After(time.Second)
		s.Stop()
		<-time.After(500 * time.Millisecond)
		s.Restart()
		natstest.Until(t, func() bool { return inSync(t, js) })
	}
	sending.Wait()
	states := func() (complete int, wrong []string) {
		kv, err := js.KeyValue(t.Context(), consume.Bucket("cluster"))
		if err != nil {
			return 0, nil
		}
		for c := range calls {
			call := fmt.Sprint("call-", c)
			got := stateOf(t, kv, call)
			if len(got) == events {
				complete++
			}
			if !slices.IsSorted(got) || len(slices.Compact(got)) != len(got) {
				wrong = append(wrong, fmt.Sprint(call, got))
			}
		}
		return complete, wrong
	}
	natstest.Until(t, func() bool { n, _ := states(); return n == calls })
	if _, wrong := states(); len(wrong) > 0 {
		t.Errorf("states: %v", wrong)
	}
	mu.Lock()
	defer mu.Unlock()
	for call, list := range begun {
		if !slices.IsSorted(list) {
			t.Errorf("%s: handlers began in the order %v", call, list)
		}
	}
}

// inSync reports whether all replicas of the stream are up to date.
func inSync(t *testing.T, js jetstream.JetStream) bool {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	stream, err := js.Stream(ctx, schemas.Stream)
	if err != nil || stream.CachedInfo().Cluster == nil || len(stream.CachedInfo().Cluster.Replicas) != 2 {
		return false
	}
	return !slices.ContainsFunc(stream.CachedInfo().Cluster.Replicas, func(p *jetstream.PeerInfo) bool { return !p.Current || p.Offline })
}

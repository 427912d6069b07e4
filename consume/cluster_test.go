package consume_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/acsbridge/acsbridge/internal/natstest"
)

// cluster is one NATS server, or three that replicate, with proxies between them.
type cluster struct {
	t       testing.TB
	servers []*natstest.Server
	routes  map[[2]int]*natstest.Proxy // by the server that connects, and the other one
}

func newCluster(t testing.TB, n int) *cluster {
	t.Helper()
	c := &cluster{t: t, routes: make(map[[2]int]*natstest.Proxy)}
	if n == 1 {
		c.servers = append(c.servers, natstest.Start(t))
		return c
	}
	var addresses []*net.TCPAddr
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, l.Addr().(*net.TCPAddr))
		l.Close()
	}
	nowhere := natstest.NewProxy(t, "").Addr() // so that they use only the proxies of their routes
	for i := range n {
		var routes []*url.URL
		for j := range n {
			if j != i {
				c.routes[[2]int{i, j}] = natstest.NewProxy(t, addresses[j].String())
				routes = append(routes, &url.URL{Scheme: "nats-route", Host: c.routes[[2]int{i, j}].Addr()})
			}
		}
		c.servers = append(c.servers, natstest.Start(t, func(o *server.Options) {
			o.ServerName = fmt.Sprint("n", i)
			o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: addresses[i].Port, NoAdvertise: true, Advertise: nowhere}
			o.Routes = routes
			o.PingInterval, o.MaxPingsOut = time.Second, 2
		}))
	}
	return c
}

// urls returns where clients connect without a proxy.
func (c *cluster) urls() string {
	var urls []string
	for _, s := range c.servers {
		urls = append(urls, s.URL())
	}
	return strings.Join(urls, ",")
}

// createStream makes a stream as soon as the cluster can.
func (c *cluster) createStream(js jetstream.JetStream, config jetstream.StreamConfig) {
	c.t.Helper()
	config.Replicas = len(c.servers)
	natstest.Until(c.t, func() bool {
		ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
		defer cancel()
		_, err := js.CreateStream(ctx, config)
		return err == nil
	})
}

//go:build unix

package consume_test

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/pcgroups"

	"github.com/acsbridge/acsbridge/schemas"
)

// BenchmarkPartitionedGroup handles the backlog of BenchmarkRun with an elastic consumer
// group of pcgroups: sixteen partitions by the call, one member, in order, without state.
func BenchmarkPartitionedGroup(b *testing.B) {
	js, _ := backlog{nodes: 1}.servers(b)
	backlog{}.fill(b, js)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	const group, member = "group", "member"
	filters := []pcgroups.PartitioningFilter{{Filter: "acs.*.*.*.*", PartitioningWildcards: []int{4}}}
	b.ResetTimer()
	if _, err := pcgroups.CreateElastic(ctx, js, schemas.Stream, group, 16, filters, -1, -1); err != nil {
		b.Fatal(err)
	}
	if _, err := pcgroups.AddMembers(ctx, js, schemas.Stream, group, []string{member}); err != nil {
		b.Fatal(err)
	}
	handle, all := acknowledge(b)
	running, err := pcgroups.ElasticConsume(ctx, js, schemas.Stream, group, member, handle,
		jetstream.ConsumerConfig{AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: -1})
	if err != nil {
		b.Fatal(err)
	}
	defer running.Stop()
	<-all
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

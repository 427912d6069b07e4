package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/alecthomas/kong"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// natsGrammar is the part of the nats command (natscli 0.5) that rights prints, with its
// flags and their meaning. What it does not know is an error.
type natsGrammar struct {
	Server   string `env:"NATS_URL"`
	User     string `env:"NATS_USER"`
	Password string `env:"NATS_PASSWORD"`

	KV struct {
		Add struct {
			Bucket      string `arg:""`
			Description string
			History     uint8
			Storage     string        `enum:"file" required:""`
			MarkerTTL   time.Duration `name:"marker-ttl"`
			Replicas    int
		} `cmd:""`
	} `cmd:"" name:"kv"`
	Stream struct {
		Add struct {
			Stream      string `arg:""`
			Description string
			Subjects    []string
			Storage     string `enum:"file" required:""`
			Retention   string `enum:"limits" required:""`
			Discard     string `enum:"old" required:""`
			MaxAge      time.Duration
			DupeWindow  time.Duration
			AllowDirect bool
			Replicas    int
			Defaults    bool `required:""` // it asks otherwise
		} `cmd:""`
	} `cmd:""`
	Consumer struct {
		Add struct {
			Stream, Consumer string `arg:""`
			Description      string
			Pull             bool   `required:""`
			Ack              string `enum:"all" required:""`
			Wait             time.Duration
			MaxDeliver       int
			MaxPending       int
			Deliver          string   `required:""`
			Replay           string   `enum:"instant" required:""`
			Filter           []string `sep:"none"`
			Defaults         bool     `required:""`
		} `cmd:""`
		Edit struct {
			Stream, Consumer string   `arg:""`
			Force            bool     `required:""` // it asks otherwise
			Filter           []string `sep:"none"`
		} `cmd:""`
	} `cmd:""`
}

// natsCommand does what the nats command does, for the tests of rights.
func natsCommand() {
	var g natsGrammar
	parser := kong.Must(&g, kong.Name("nats"))
	command, err := parser.Parse(os.Args[1:])
	parser.FatalIfErrorf(err)
	parser.FatalIfErrorf(g.run(command.Command()))
}

func (g *natsGrammar) run(command string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	nc, err := nats.Connect(g.Server, nats.UserInfo(g.User, g.Password))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	switch command {
	case "kv add <bucket>":
		a := g.KV.Add
		_, err = js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: a.Bucket, Description: a.Description, History: a.History, LimitMarkerTTL: a.MarkerTTL, Replicas: a.Replicas,
		})
	case "stream add <stream>":
		a := g.Stream.Add
		_, err = js.CreateStream(ctx, jetstream.StreamConfig{
			Name: a.Stream, Description: a.Description, Subjects: a.Subjects, MaxAge: a.MaxAge, Duplicates: a.DupeWindow,
			AllowDirect: a.AllowDirect, Replicas: a.Replicas,
		})
	case "consumer add <stream> <consumer>":
		a := g.Consumer.Add
		c := jetstream.ConsumerConfig{
			Durable: a.Consumer, Description: a.Description, AckPolicy: jetstream.AckAllPolicy, AckWait: a.Wait,
			MaxDeliver: a.MaxDeliver, MaxAckPending: a.MaxPending, FilterSubjects: a.Filter,
		}
		switch ago, err := time.ParseDuration(a.Deliver); {
		case a.Deliver == "new":
			c.DeliverPolicy = jetstream.DeliverNewPolicy
		case a.Deliver == "all":
		case err == nil:
			at := time.Now().Add(-ago)
			c.DeliverPolicy, c.OptStartTime = jetstream.DeliverByStartTimePolicy, &at
		default:
			return err
		}
		_, err = js.CreateConsumer(ctx, a.Stream, c)
	case "consumer edit <stream> <consumer>":
		a := g.Consumer.Edit
		var consumer jetstream.Consumer
		if consumer, err = js.Consumer(ctx, a.Stream, a.Consumer); err == nil {
			c := consumer.CachedInfo().Config
			c.FilterSubject, c.FilterSubjects = "", a.Filter
			_, err = js.UpdateConsumer(ctx, a.Stream, c)
		}
	default:
		err = fmt.Errorf("%s is not a command that rights may print", command)
	}
	return err
}

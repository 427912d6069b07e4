package main

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// yardstick is the least that the job can be: it reads a callback, verifies
// one RSA-2048 signature, publishes the body and answers when the stream has
// it. It checks nothing else and keeps nothing. It runs until SIGTERM.
func yardstick() {
	url, keyFile := os.Args[1], os.Args[2]
	nc := must(nats.Connect(url))
	js := must(jetstream.New(nc))
	must(js.CreateStream(context.Background(), jetstream.StreamConfig{Name: "ACS", Subjects: []string{"acs.>"}}))
	block, _ := pem.Decode(must(os.ReadFile(keyFile)))
	key := must(x509.ParsePKIXPublicKey(block.Bytes)).(*rsa.PublicKey)

	handler := func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		dot := strings.LastIndexByte(token, '.')
		signature, err := base64.RawURLEncoding.DecodeString(token[dot+1:])
		digest := sha256.Sum256([]byte(token[:dot]))
		if err != nil || rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		ack, err := js.PublishAsync("acs.contoso.PlayCompleted.2.c", body)
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		select {
		case <-ack.Ok():
		case <-ack.Err():
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	fmt.Fprintln(os.Stderr, listener.Addr())
	go func() { _ = http.Serve(listener, http.HandlerFunc(handler)) }()
	untilTerminated()
}

// natsd is a NATS server with its store in the directory that it is given,
// with the defaults of nats-server. It runs until SIGTERM.
func natsd() {
	s := must(server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: os.Args[1], NoSigs: true, NoLog: true,
	}))
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		panic("nats-server does not start")
	}
	fmt.Fprintln(os.Stderr, s.ClientURL())
	untilTerminated()
	s.Shutdown()
	s.WaitForShutdown()
}

func untilTerminated() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	<-c
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"
)

// webhookApp is a program for scripts: an application that prints each request and
// answers it. It has one of the faults that a webhook can have: it answers whatever
// comes, or reads the claims of a token without checking its signature.
func webhookApp() {
	log.SetFlags(0)
	listen := flag.String("listen", "", "address")
	status := flag.Int("status", http.StatusOK, "of each answer")
	useTLS := flag.Bool("tls", false, "with a certificate that no authority has signed")
	proxy := flag.String("proxy", "", "address of a proxy that connects to this application whatever host it is asked for")
	issuer := flag.String("issuer", "", "required in a token, whose signature is not checked")
	audience := flag.String("audience", "", "the same")
	flag.Parse()

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	var lines sync.Mutex
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		answer := *status
		if *issuer != "" && !claimsFit(r.Header.Get("Authorization"), *issuer, *audience) {
			answer = http.StatusUnauthorized
		}
		lines.Lock()
		fmt.Printf("%s %s %s [%s] %s\n", r.Method, r.RequestURI, r.Header.Get("Content-Type"), r.Header.Get("Aeg-Event-Type"), body)
		lines.Unlock()
		w.WriteHeader(answer)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Listener.Close()
	if server.Listener = listener; *useTLS {
		server.StartTLS()
	} else {
		server.Start()
	}
	defer server.Close()
	if *proxy != "" {
		go func() { log.Fatal(http.ListenAndServe(*proxy, tunnel(*listen))) }()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	<-ctx.Done()
}

// tunnel is an HTTP proxy that connects to one address.
func tunnel(address string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		app, err := net.Dial("tcp", address)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer app.Close()
		w.WriteHeader(http.StatusOK)
		client, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer client.Close()
		go io.Copy(app, buffered)
		io.Copy(client, app)
	})
}

// claimsFit reads the claims of a bearer token.
func claimsFit(authorization, issuer, audience string) bool {
	parts := strings.Split(strings.TrimPrefix(authorization, "Bearer "), ".")
	if len(parts) != 3 {
		return false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return false
	}
	var claims struct {
		Iss, Aud string
		Exp      int64
	}
	return json.Unmarshal(payload, &claims) == nil && claims.Iss == issuer && claims.Aud == audience && time.Now().Unix() < claims.Exp
}

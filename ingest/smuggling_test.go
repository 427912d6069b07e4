package ingest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acsbridge/acsbridge/ingest"
	"github.com/acsbridge/acsbridge/publish"
)

// listening is a bridge's server on loopback that notes every request that its
// handler sees and every callback that is stored, by path.
type listening struct {
	address string

	mu           sync.Mutex
	seen, stored []string
}

func listen(t *testing.T, config ingest.Config) *listening {
	t.Helper()
	l := &listening{}
	config.Publisher = storing(func(_ context.Context, d *publish.Delivery) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.stored = append(l.stored, d.Path)
		return nil
	})
	h := handler(t, config)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.address = listener.Addr().String()
	server := h.Server(nil)
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		l.seen = append(l.seen, r.URL.Path)
		l.mu.Unlock()
		h.ServeHTTP(w, r)
	})
	served := make(chan error, 1)
	go func() { served <- server.Serve(h.Bound(listener)) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-served; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
	return l
}

// exchange sends bytes as they are and returns the status of each answer until
// the server closes the connection. open is set when it did not.
func (l *listening) exchange(t *testing.T, bytes string) (answers []int, open bool) {
	t.Helper()
	conn, err := net.Dial("tcp", l.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, bytes); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	for {
		// Each answer comes at once. What does not come for so long is a
		// connection that waits for the next request.
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(reader, nil)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return answers, true
		}
		if err != nil {
			return answers, false
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		answers = append(answers, response.StatusCode)
	}
}

// TestNoRequestIsSmuggled sends requests whose end a proxy in front may see
// elsewhere than the bridge does. What follows must not be taken for a request,
// wherever the end is: the hidden one would arrive on the connection, and with
// the good name, of the proxy.
func TestNoRequestIsSmuggled(t *testing.T) {
	hidden := fmt.Sprintf("POST /callbacks/hidden HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer x\r\nContent-Length: %d\r\n\r\n%s", len(defaultBody), defaultBody)
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(defaultBody), defaultBody)
	whole := len(chunked + hidden)
	const head = "POST /callbacks/first HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer x\r\n"
	for name, test := range map[string]struct {
		bytes string
		want  int // of the first answer; 0 for none
	}{
		"TE and CL":              {head + fmt.Sprintf("Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n", whole) + chunked + hidden, 200},
		"CL and TE":              {head + fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n", whole) + chunked + hidden, 200},
		"short CL and TE":        {head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked + hidden, 200},
		"CL 0 and TE":            {head + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked + hidden, 200},
		"TE alone":               {head + "Transfer-Encoding: chunked\r\n\r\n" + chunked + hidden, 200},
		"TE in capitals":         {head + "TRANSFER-ENCODING: CHUNKED\r\nContent-Length: 4\r\n\r\n" + chunked + hidden, 200},
		"TE over two lines":      {head + "Transfer-Encoding:\r\n chunked\r\nContent-Length: 4\r\n\r\n" + chunked + hidden, 200},
		"TE with a tab":          {head + "Transfer-Encoding:\tchunked\r\nContent-Length: 4\r\n\r\n" + chunked + hidden, 200},
		"TE twice":               {head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked + hidden, 501},
		"TE identity":            {head + fmt.Sprintf("Transfer-Encoding: identity\r\nContent-Length: %d\r\n\r\n", len(defaultBody)) + defaultBody + hidden, 501},
		"TE of two codings":      {head + "Transfer-Encoding: gzip, chunked\r\n\r\n" + chunked + hidden, 501},
		"TE chunked, identity":   {head + "Transfer-Encoding: chunked, identity\r\n\r\n" + chunked + hidden, 501},
		"TE with a vertical tab": {head + "Transfer-Encoding: \vchunked\r\nContent-Length: 4\r\n\r\n" + chunked + hidden, 400},
		"space before the colon": {head + "Transfer-Encoding : chunked\r\nContent-Length: 4\r\n\r\n" + chunked + hidden, 400},
		"two CLs":                {head + fmt.Sprintf("Content-Length: %d\r\nContent-Length: 4\r\n\r\n", len(defaultBody)) + defaultBody + hidden, 400},
		"two CLs in one line":    {head + fmt.Sprintf("Content-Length: %d, 4\r\n\r\n", len(defaultBody)) + defaultBody + hidden, 400},
		"signed CL":              {head + fmt.Sprintf("Content-Length: +%d\r\n\r\n", len(defaultBody)) + defaultBody + hidden, 400},
		"hex CL":                 {head + "Content-Length: 0x10\r\n\r\n" + defaultBody + hidden, 400},
		"chunk extension":        {head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x;a=b\r\n%s\r\n0\r\n\r\n", len(defaultBody), defaultBody) + hidden, 200},
		"chunk size, bare LF":    {head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\n%s\r\n0\r\n\r\n", len(defaultBody), defaultBody) + hidden, 503},
		"extension, bare LF":     {head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x;\n%s\r\n0\r\n\r\n", len(defaultBody), defaultBody) + hidden, 503},
		"last chunk, bare LF":    {head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\n\n", len(defaultBody), defaultBody) + hidden, 503},
		"chunk too long":         {head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(defaultBody)-1, defaultBody) + hidden, 503},
		"trailer":                {head + fmt.Sprintf("Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n%x\r\n%s\r\n0\r\nContent-Length: 9\r\n\r\n", len(defaultBody), defaultBody) + hidden, 400},
		"token in the trailer":   {fmt.Sprintf("POST /callbacks/first HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n%x\r\n%s\r\n0\r\nAuthorization: Bearer x\r\n\r\n", len(defaultBody), defaultBody) + hidden, 401},
		"header, bare LF and TE": {head + "X: y\nTransfer-Encoding: chunked\nContent-Length: 4\r\n\r\n" + chunked + hidden, 200},
		"header, bare CR":        {head + "X: y\rTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + chunked + hidden, 400},
		"HTTP/1.0 and TE":        {strings.Replace(head, "1.1", "1.0", 1) + "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + chunked + hidden, 400},
		"refused, with a body":   {"POST /callbacks/first HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\n\r\n" + hidden, 401},
		"GET with a body":        {"GET /callbacks/first HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\n\r\n" + hidden, 405},
		"other path":             {"POST /first HTTP/1.1\r\nHost: b\r\nContent-Length: 0\r\n\r\n" + hidden, 404},
		"too large":              {head + "Content-Length: 999999\r\n\r\n" + hidden, 413},
		"expects to be asked":    {"POST /callbacks/first HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n" + hidden, 401},
	} {
		t.Run(name, func(t *testing.T) {
			l := listen(t, ingest.Config{})
			answers, open := l.exchange(t, test.bytes)
			if len(answers) != 1 || answers[0] != test.want || open {
				t.Errorf("answers %v and the connection open: %v, want %d and closed", answers, open, test.want)
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			for _, path := range append(l.seen, l.stored...) {
				if strings.Contains(path, "hidden") {
					t.Errorf("the hidden request arrived: seen %v, stored %v", l.seen, l.stored)
				}
			}
		})
	}
}

// TestWhatFollowsAGoodRequestIsJudgedAlone pipelines requests with one clear
// end each: the connection of a good one stays open, and each token counts for
// its own request only.
func TestWhatFollowsAGoodRequestIsJudgedAlone(t *testing.T) {
	request := func(path, authorization string) string {
		return fmt.Sprintf("POST /callbacks/%s HTTP/1.1\r\nHost: b\r\n%sContent-Length: %d\r\n\r\n%s", path, authorization, len(defaultBody), defaultBody)
	}
	const good = "Authorization: Bearer x\r\n"
	l := listen(t, ingest.Config{})
	answers, open := l.exchange(t, request("a", good)+request("b", good)+request("c", "")+request("d", good))
	if diff := cmp.Diff([]int{200, 200, 401}, answers); diff != "" || open {
		t.Error(diff, open)
	}
	if diff := cmp.Diff([]string{"a", "b"}, l.stored); diff != "" {
		t.Error(diff)
	}
}

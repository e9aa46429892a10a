package report_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/report"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/rules"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// endpoint answers what it was told to and keeps what it was asked.
type endpoint struct {
	ensemble.UnsafeEnsembleOperatorServer

	mu     sync.Mutex
	answer *ensemble.Response
	asked  []string
	tokens []string
}

func (e *endpoint) say(ctx context.Context, asked ...string) (*ensemble.Response, error) {
	e.mu.Lock()
	answer := e.answer
	e.asked = append(e.asked, strings.Join(asked, " "))
	e.tokens = append(e.tokens, metadata.ValueFromIncomingContext(ctx, "authorization")...)
	e.mu.Unlock()
	if answer == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return answer, nil
}

func (e *endpoint) RequestStatus(ctx context.Context, r *ensemble.StatusRequest) (*ensemble.Response, error) {
	return e.say(ctx, "status", r.GetMember(), r.GetName())
}

func (e *endpoint) RequestUpdate(ctx context.Context, r *ensemble.UpdateRequest) (*ensemble.Response, error) {
	return e.say(ctx, "update", r.GetMember(), r.GetName(), r.GetPayload())
}

func (e *endpoint) RequestAction(ctx context.Context, r *ensemble.ActionRequest) (*ensemble.Response, error) {
	return e.say(ctx, r.GetAction(), r.GetMember(), r.GetName(), r.GetPayload())
}

func (e *endpoint) answers(status ensemble.Response_ResultType, payload string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = &ensemble.Response{Status: status, Payload: payload}
}

// serve serves an endpoint on loopback.
func serve(t *testing.T, options ...grpc.ServerOption) (*endpoint, string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e, server := &endpoint{}, grpc.NewServer(options...)
	ensemble.RegisterEnsembleOperatorServer(server, e)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return e, listener.Addr().String()
}

func connect(t *testing.T, options report.Options) *report.Client {
	t.Helper()
	options.Member, options.Name = "miniclusters", "demo"
	client, err := report.New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

func TestResize(t *testing.T) {
	t.Parallel()
	e, address := serve(t)
	client := connect(t, report.Options{Address: address})
	for name, row := range map[string]struct {
		status  ensemble.Response_ResultType
		payload string
		want    agent.Reply
		fault   string
	}{
		"granted": {
			ensemble.Response_SUCCESS, `{"from":2,"wants":4,"has":2,"reason":"the desired size is 4","new":[]}`,
			agent.Reply{Granted: true, Size: &rules.Size{Has: 2, Wants: 4}, Reason: "the desired size is 4"}, "",
		},
		"denied":             {ensemble.Response_DENIED, `{"reason":"it is 6 already"}`, agent.Reply{Reason: "it is 6 already"}, ""},
		"under way":          {ensemble.Response_EXISTS, `{"wants":6,"has":2}`, agent.Reply{Size: &rules.Size{Has: 2, Wants: 6}}, ""},
		"of ensemble-python": {ensemble.Response_SUCCESS, "", agent.Reply{Granted: true}, ""},
		"an error":           {ensemble.Response_ERROR, `{"reason":"it is broken"}`, agent.Reply{}, "the endpoint answers ERROR: it is broken"},
		"a silent error":     {ensemble.Response_ERROR, ``, agent.Reply{}, "the endpoint answers ERROR: no reason is given"},
		"no JSON":            {ensemble.Response_SUCCESS, `granted`, agent.Reply{}, "the payload of the reply is no JSON object"},
	} {
		e.answers(row.status, row.payload)
		got, err := client.Resize(t.Context(), agent.Resize{Verb: rules.Grow, Nodes: 2, ID: "a-b.1"})
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%s: reply (-want +got):\n%s", name, diff)
		}
		if (err != nil) != (row.fault != "") || err != nil && !strings.Contains(err.Error(), row.fault) {
			t.Errorf("%s: the error is %v, want %q", name, err, row.fault)
		}
	}
	want := `grow miniclusters demo {"group":"flux-framework.org","grow":2,"id":"a-b.1","version":"v1alpha2"}`
	for _, asked := range e.asked {
		if asked != want {
			t.Errorf("it asked %s, want %s", asked, want)
		}
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	e, address := serve(t)
	client := connect(t, report.Options{Address: address})
	e.answers(ensemble.Response_SUCCESS, `{"nodes":{},"resize":{"wants":4,"has":2,"max":6}}`)
	if got, err := client.Status(t.Context()); err != nil || got != (rules.Size{Has: 2, Wants: 4, Max: 6}) {
		t.Errorf("the status is %+v, %v", got, err)
	}
	e.answers(ensemble.Response_SUCCESS, `{}`)
	if _, err := client.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "does not have it under resize") {
		t.Errorf("without a size the error is %v", err)
	}
	e.answers(ensemble.Response_DENIED, `{"reason":"it is not managed"}`)
	if _, err := client.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "it answers DENIED: it is not managed") {
		t.Errorf("denied the error is %v", err)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	e, address := serve(t)
	client := connect(t, report.Options{Address: address})
	e.answers(ensemble.Response_SUCCESS, `{"stored":["queue"]}`)
	many := map[int32]int64{}
	for nodes := range int32(70) {
		many[nodes+1] = 1
	}
	for _, waiting := range []map[int32]int64{{4: 2, 16: 1}, many} {
		if err := client.Report(t.Context(), agent.Report{
			Report: rules.Report{Queue: map[string]int64{"run": 1 << 40}, Waiting: waiting}, Nodes: agent.Nodes{Up: 4, Free: 3, IdleTail: 2},
		}); err != nil {
			t.Fatal(err)
		}
	}
	want := `update miniclusters demo {"counts":{"idle_tail":2,"nodes_free":3,"nodes_up":4},"queue":{"run":2147483647},"waiting":{"16":1,"4":2}}`
	if e.asked[0] != want {
		t.Errorf("it told %s, want %s", e.asked[0], want)
	}
	if !strings.Contains(e.asked[1], `"63":1,"64":7,`) {
		t.Errorf("of many it told %s, want the seven largest together", e.asked[1])
	}
	e.answers(ensemble.Response_DENIED, `{"reason":"it is not managed"}`)
	if err := client.Report(t.Context(), agent.Report{}); err == nil || !strings.Contains(err.Error(), "it is not managed") {
		t.Errorf("denied the error is %v", err)
	}
}

// TestSilence: a call ends with its context, and the next one has another connection.
func TestSilence(t *testing.T) {
	t.Parallel()
	e, address := serve(t)
	client := connect(t, report.Options{Address: address})
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := client.Status(short); err == nil {
		t.Fatal("an answer came from an endpoint that gives none")
	}
	e.answers(ensemble.Response_SUCCESS, `{"resize":{"wants":4,"has":2}}`)
	if _, err := client.Status(t.Context()); err != nil {
		t.Errorf("after the silence: %v", err)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	certificate := issue(t, directory)
	e, address := serve(t, grpc.Creds(credentials.NewServerTLSFromCert(&certificate)))
	e.answers(ensemble.Response_SUCCESS, `{"resize":{"wants":4,"has":2}}`)
	token := filepath.Join(directory, "token")
	write(t, token, []byte("secret\n"))
	authorities := filepath.Join(directory, "ca.pem")
	for name, row := range map[string]struct {
		security report.Security
		fault    string
	}{
		"by its address":     {report.Security{CAFile: authorities, TokenFile: token}, ""},
		"by a name":          {report.Security{CAFile: authorities, ServerName: "endpoint.example"}, ""},
		"by another name":    {report.Security{CAFile: authorities, ServerName: "other.example"}, "not other.example"},
		"of nobody we trust": {report.Security{TLS: true}, "unknown authority"},
		"without TLS":        {report.Security{}, "error"},
		"with a certificate": {report.Security{CAFile: authorities, CertFile: authorities, KeyFile: filepath.Join(directory, "key.pem")}, ""},
	} {
		client := connect(t, report.Options{Address: address, Security: row.security})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err := client.Status(ctx)
		cancel()
		if (err != nil) != (row.fault != "") || err != nil && !strings.Contains(err.Error(), row.fault) {
			t.Errorf("%s: the error is %v, want %q", name, err, row.fault)
		}
	}
	if diff := cmp.Diff([]string{"Bearer secret"}, e.tokens); diff != "" {
		t.Errorf("tokens (-want +got):\n%s", diff)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for want, options := range map[string]report.Options{
		"the address of the endpoint is empty":     {Name: "demo"},
		"the name of the member is empty":          {Address: "localhost:1"},
		`is "localhost"; it has to be HOST:PORT`:   {Address: "localhost", Name: "demo"},
		"given together":                           {Address: "localhost:1", Name: "demo", Security: report.Security{TLS: true, CertFile: "a"}},
		"of use with TLS only":                     {Address: "localhost:1", Name: "demo", Security: report.Security{TokenFile: "a"}},
		"read the authorities of the endpoint":     {Address: "localhost:1", Name: "demo", Security: report.Security{CAFile: "/nowhere"}},
		"client_test.go has no certificate in PEM": {Address: "localhost:1", Name: "demo", Security: report.Security{CAFile: "client_test.go"}},
	} {
		if _, err := report.New(options); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("of %+v the error is %v, want %q", options, err, want)
		}
	}
}

// issue makes a certificate of its own authority for loopback and endpoint.example, and writes it and its key.
func issue(t *testing.T, directory string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "endpoint"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, DNSNames: []string{"endpoint.example"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(directory, "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
	write(t, filepath.Join(directory, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

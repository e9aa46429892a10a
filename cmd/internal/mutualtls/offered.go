package mutualtls

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// recordHandshake is the first byte that a client of TLS sends (RFC 8446, 5.1). A client that speaks HTTP/2 without TLS
// begins with "PRI" (RFC 9113, 3.4).
const recordHandshake = 22

// OfferTLS makes a gRPC server take connections with TLS and without on one port: the first byte of a client tells which
// one it speaks. It is for a server whose clients are not known by certificates. Until there is material, connections
// with TLS fail and others do not.
func (s *Security) OfferTLS() grpc.ServerOption {
	return grpc.Creds(&offered{
		TransportCredentials: credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.GetCertificate}),
		plain:                insecure.NewCredentials(),
	})
}

// ServerTLS makes a gRPC server show its certificate and ask for none. It is for clients that have none to show, such as
// Cluster Autoscaler where it asks an expander.
func (s *Security) ServerTLS() grpc.ServerOption {
	return grpc.Creds(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.GetCertificate}))
}

type offered struct {
	credentials.TransportCredentials
	plain credentials.TransportCredentials
}

// ServerHandshake implements credentials.TransportCredentials. gRPC has set a deadline.
func (o *offered) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	var first [1]byte
	if _, err := io.ReadFull(raw, first[:]); err != nil {
		return nil, nil, fmt.Errorf("read what the client speaks: %w", err)
	}
	conn := &begun{Conn: raw, first: first[:]}
	if first[0] == recordHandshake {
		return o.TransportCredentials.ServerHandshake(conn)
	}
	return o.plain.ServerHandshake(conn)
}

// Clone implements credentials.TransportCredentials.
func (o *offered) Clone() credentials.TransportCredentials {
	return &offered{TransportCredentials: o.TransportCredentials.Clone(), plain: o.plain.Clone()}
}

// begun is a connection of which something was read already.
type begun struct {
	net.Conn
	first []byte
}

// Read implements net.Conn.
func (b *begun) Read(into []byte) (int, error) {
	if len(b.first) == 0 {
		return b.Conn.Read(into)
	}
	n := copy(into, b.first)
	b.first = b.first[n:]
	return n, nil
}

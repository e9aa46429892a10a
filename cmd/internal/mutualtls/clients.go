package mutualtls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// ServerOptions make a gRPC server serve with what is in force. A client without a certificate of one of the
// authorities gets no connection, and an alert of TLS that says why. One that has such a certificate, of another name,
// gets PermissionDenied with words, which TLS has no room for.
func (s *Security) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(&watched{security: s, TransportCredentials: credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS12,
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
				if current := s.current.Load(); current != nil {
					return current.config, nil
				}
				return nil, errNoMaterial
			},
		})}),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := s.authorize(ctx); err != nil {
				return nil, err
			}
			return next(ctx, request)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if err := s.authorize(stream.Context()); err != nil {
				return err
			}
			return next(srv, stream)
		}),
	}
}

// authorize is an error with a status when the peer is not one to be answered.
func (s *Security) authorize(ctx context.Context) error {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return status.Error(codes.Unauthenticated, "the request has no peer")
	}
	certificate := verified(p.AuthInfo)
	if certificate == nil {
		return status.Error(codes.Unauthenticated, "the connection has no verified certificate of a client")
	}
	if !s.accepts(certificate) {
		return status.Errorf(
			codes.PermissionDenied, "the client's certificate is of %q, and only clients of the names %q are answered", identities(certificate),
			s.clients,
		)
	}
	return nil
}

// verified is the certificate of a client, or nil where there is none whose chain was verified.
func verified(info credentials.AuthInfo) *x509.Certificate {
	if t, ok := info.(credentials.TLSInfo); ok && len(t.State.VerifiedChains) > 0 {
		return t.State.PeerCertificates[0]
	}
	return nil
}

// watched are credentials that log and count who is refused, of which gRPC itself says nothing.
type watched struct {
	credentials.TransportCredentials
	security *Security
}

// ServerHandshake implements credentials.TransportCredentials.
func (w *watched) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	from := raw.RemoteAddr().String()
	last := raw
	if tcp, ok := raw.(*net.TCPConn); ok {
		last = &lingering{TCPConn: tcp, handshaking: true}
	}
	conn, info, err := w.TransportCredentials.ServerHandshake(last)
	if l, ok := last.(*lingering); ok {
		l.handshaking = false
	}
	w.security.connected(from, info, err)
	return conn, info, err
}

// lingering is a connection that, when its handshake fails, is closed only after the client has read why. With TLS 1.3 a
// client takes the handshake for done before the server has looked at its certificate, and sends; closing a connection
// with unread bytes resets it, and the alert that says what is wrong with the certificate may be lost.
type lingering struct {
	*net.TCPConn
	handshaking bool
}

const (
	// lingerTime and lingerBytes bound what a client that is refused may still cost.
	lingerTime  = time.Second
	lingerBytes = 64 << 10
)

// Close implements net.Conn.
func (l *lingering) Close() error {
	if l.handshaking && l.CloseWrite() == nil && l.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		// Whatever comes is of no interest, nor is how it ends.
		_, _ = io.CopyN(io.Discard, l.TCPConn, lingerBytes)
	}
	return l.TCPConn.Close()
}

// Clone implements credentials.TransportCredentials.
func (w *watched) Clone() credentials.TransportCredentials {
	return &watched{TransportCredentials: w.TransportCredentials.Clone(), security: w.security}
}

// connected notes the outcome of a handshake.
func (s *Security) connected(from string, info credentials.AuthInfo, err error) {
	if err != nil {
		if reason := reasonOf(err); reason != "" {
			s.refuse(reason, "peer", from, "why", err.Error())
		}
		return
	}
	certificate := verified(info)
	if certificate == nil || !s.accepts(certificate) {
		var names []string
		if certificate != nil {
			names = identities(certificate)
		}
		s.refuse(reasonIdentity, "peer", from, "names", names, "accepted", s.clients)
		return
	}
	s.metrics.expires(client, certificate.NotAfter)
	s.log.V(1).Info("A client has connected", "peer", from, "names", identities(certificate),
		"expires", certificate.NotAfter.UTC().Format(time.RFC3339))
}

func (s *Security) refuse(reason string, about ...any) {
	s.metrics.refused.WithLabelValues(reason).Inc()
	if unsaid, say := s.refusals.take(reason, s.clock.Now()); say {
		s.log.Info("Refused a client", append([]any{"reason", reason, "unloggedBefore", unsaid}, about...)...)
	}
}

// reasonOf is why a handshake has failed; it is empty where the fault is not the client's, or nobody wanted one: load
// balancers and port scanners connect and leave.
func reasonOf(err error) string {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var rejected *tls.CertificateVerificationError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, errNoMaterial):
		return ""
	case errors.As(err, &unknown):
		return reasonUnknownAuthority
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return reasonExpired
	case errors.As(err, &rejected):
		return reasonBadCertificate
	// crypto/tls has no type for it.
	case strings.Contains(err.Error(), "client didn't provide a certificate"):
		return reasonNoCertificate
	default:
		return reasonHandshake
	}
}

// logBound lets one line for each reason through in every period.
type logBound struct {
	mu      sync.Mutex
	last    map[string]time.Time
	dropped map[string]int
}

// logPeriod is how often refusals for the same reason are logged at the most.
const logPeriod = 10 * time.Second

// take reports whether a line may be logged now, and how many were not since the last one.
func (b *logBound) take(reason string, now time.Time) (dropped int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last == nil {
		b.last, b.dropped = map[string]time.Time{}, map[string]int{}
	}
	if last, before := b.last[reason]; before && now.Sub(last) < logPeriod {
		b.dropped[reason]++
		return 0, false
	}
	dropped = b.dropped[reason]
	b.last[reason], b.dropped[reason] = now, 0
	return dropped, true
}

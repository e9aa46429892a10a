package serving

import (
	"google.golang.org/grpc"
)

// Describe registers the metrics that Start would, for those who want to know which there are.
func (s *Server) Describe() error {
	requests, _, _, err := s.metrics()
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	s.Register(server)
	requests.InitializeMetrics(server)
	return nil
}

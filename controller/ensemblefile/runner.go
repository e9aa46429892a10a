package ensemblefile

// Runner is a program that runs the file. What one of them does not do is a fault in a file for it only.
type Runner int

const (
	// EnsemblePython is ensemble-python 0.0.16 with its executor for MiniClusters.
	EnsemblePython Runner = iota
	// Agent is the program cmd/agent of this repository. A file for it needs no heartbeat, may have every trigger of the schema and
	// points in the names of jobs, and may compare with fractions; a custom action of a file without Python text runs the program that
	// its label has, with arguments.
	Agent
)

func (r Runner) triggers() []string {
	if r == Agent {
		return agentTriggers
	}
	return triggers
}

func (r Runner) customLabel() string {
	if r == Agent {
		return "must name the function of custom to call, or without custom be the program to run"
	}
	return "must name the function to call"
}

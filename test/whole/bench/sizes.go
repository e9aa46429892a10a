package main

import (
	"slices"

	holds "github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/estate"
)

// size is how much a cluster holds.
type size = holds.Size

// The tables, as --only names them.
const (
	tableCalls    = "calls"
	tableExpander = "expander"
	tableLoop     = "loop"
	tableSizes    = "sizes"
)

var allTables = []string{tableCalls, tableExpander, tableLoop, tableSizes}

// fraction is a part of a number of groups or nodes, of which there has to be one.
func fraction(n, divisor int) int { return max(n/divisor, 1) }

// sizesOf are the rows of the table of sizes: groups and nodes vary one at a time.
func sizesOf(full size) []size {
	some := fraction(full.Groups, 10)
	rows := []size{
		{Groups: fraction(full.Groups, 100), Nodes: full.Nodes},
		{Groups: some, Nodes: full.Nodes},
		full,
		{Groups: some, Nodes: max(fraction(full.Nodes, 10), some)},
	}
	// At small sizes the fractions coincide.
	var distinct []size
	for _, row := range rows {
		if !slices.Contains(distinct, row) {
			distinct = append(distinct, row)
		}
	}
	return distinct
}

// loopSize is the cluster in which a loop of Cluster Autoscaler is replayed.
func loopSize(full size) size {
	groups := fraction(full.Groups, 100)
	return size{Groups: groups, Nodes: max(fraction(full.Nodes, 10), groups)}
}

// job is what is measured in one cluster.
type job struct {
	size
	tables []string
}

func (j *job) wants(table string) bool { return slices.Contains(j.tables, table) }

// jobs groups the measurements by size, because a cluster takes longest to make.
func jobs(full size, tables []string) []job {
	var out []job
	add := func(table string, s size) {
		if !slices.Contains(tables, table) {
			return
		}
		for i := range out {
			if out[i].size == s {
				out[i].tables = append(out[i].tables, table)
				return
			}
		}
		out = append(out, job{s, []string{table}})
	}
	add(tableCalls, full)
	add(tableExpander, full)
	add(tableLoop, loopSize(full))
	for _, s := range sizesOf(full) {
		add(tableSizes, s)
	}
	return out
}

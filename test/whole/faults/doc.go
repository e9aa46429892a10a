// Package faults breaks what the provider stands on, and checks that the promises of the design hold all the same: the
// process is killed between any two of its writes, the API server is down for a minute, watches lag, others write the
// same objects, and of two replicas the one that leads is killed or cut off.
//
// Parts of the provider run in this process where a fault has to hit an exact moment (inprocess.Mortal, lag); the real
// binary runs where the fault is one of processes and networks (system.System, gate). Nothing waits for a time to
// pass, the minute of the outage apart.
package faults

// Command guard ends the processes of a control plane when the program that started them is gone.
//
// Its standard input is a pipe whose other end only that program holds. A line "+4711" puts the process
// group 4711 under guard, a line "-4711" takes it out again (it has ended). When the pipe closes, whether
// the program called Stop, panicked, got Ctrl-C or was killed with SIGKILL, guard kills every group that it
// still holds, removes the directories named on its command line and exits.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// goneWithin bounds the wait for killed processes and for the removal of their directories, also on a busy machine.
const goneWithin = time.Minute

func main() {
	// Ctrl-C and a closing terminal are for the program under guard: guard acts when the pipe closes.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	if err := run(os.Stdin, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "guard:", err)
		os.Exit(1)
	}
}

func run(lines io.Reader, directories []string) error {
	groups, readErr := hold(lines)
	errs := []error{readErr, end(groups)}
	for _, directory := range directories {
		errs = append(errs, remove(directory))
	}
	return errors.Join(errs...)
}

// hold follows the lines until the pipe closes and returns the process groups held then.
func hold(lines io.Reader) (map[int]struct{}, error) {
	groups := map[int]struct{}{}
	scanner := bufio.NewScanner(lines)
	for scanner.Scan() {
		line := scanner.Text()
		group, err := strconv.Atoi(line)
		switch {
		case err != nil || group > -2 && group < 2:
			// Group 1 is init's and 0 and -1 mean "everybody" to kill(2): never act on such a line.
			return groups, fmt.Errorf("line %q: want + or - and the number of a process group", line)
		case group > 0:
			groups[group] = struct{}{}
		default:
			delete(groups, -group)
		}
	}
	return groups, scanner.Err()
}

// end kills the groups and waits until none of their processes is left.
func end(groups map[int]struct{}) error {
	deadline := time.Now().Add(goneWithin)
	for {
		for group := range groups {
			if err := syscall.Kill(-group, syscall.SIGKILL); errors.Is(err, syscall.ESRCH) || zombies(group) {
				delete(groups, group)
			}
		}
		if len(groups) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("process groups %v still run %s after SIGKILL", groups, goneWithin)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// zombies tells whether the leader of the group is dead and only waits for its parent, which after the death
// of our processes is init: there is nothing more to kill.
func zombies(group int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", group))
	if err != nil {
		return false
	}
	// The state follows the command in parentheses, which may hold any character.
	for i := len(stat) - 1; i > 0; i-- {
		if stat[i] == ')' {
			return i+2 < len(stat) && stat[i+2] == 'Z'
		}
	}
	return false
}

// remove deletes the directory. A process that is just dying may still create a file in it, so a failure is
// tried again.
func remove(directory string) error {
	deadline := time.Now().Add(goneWithin)
	for {
		err := os.RemoveAll(directory)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

package main

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// step is a command of a transcript and what it shows.
type step struct {
	command string
	shows   []string
}

// transcript takes the steps out of the one console block of a page.
func transcript(t *testing.T, page string) []step {
	t.Helper()
	raw, err := os.ReadFile(page)
	require.NoError(t, err)
	_, block, found := strings.Cut(strings.ReplaceAll(string(raw), "\r\n", "\n"), "```console\n")
	require.True(t, found, "%s has no transcript", page)
	block, after, _ := strings.Cut(block, "```\n")
	require.NotContains(t, after, "```console")
	var steps []step
	for line := range strings.Lines(block) {
		line = strings.TrimSuffix(line, "\n")
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			steps = append(steps, step{command: command})
			continue
		}
		steps[len(steps)-1].shows = append(steps[len(steps)-1].shows, line)
	}
	return steps
}

// shown is the pattern of an output as a page shows it: … stands for anything,
// in a line of its own for any lines; spaces do not count.
func shown(lines []string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("^")
	for _, line := range lines {
		if line == "…" {
			b.WriteString(`(?s:.*)`)
			continue
		}
		line = regexp.QuoteMeta(strings.Join(strings.Fields(line), " "))
		b.WriteString(strings.ReplaceAll(line, "…", ".*") + "\n")
	}
	return regexp.MustCompile(b.String() + "$")
}

func squeezed(output string) string {
	var b strings.Builder
	for line := range strings.Lines(output) {
		b.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return b.String()
}

// The README's way from a DSN to the first release, step by step, does what
// the README shows. Both languages have the same one.
func TestReadmeTranscript(t *testing.T) {
	t.Parallel()
	steps := transcript(t, "../../README.md")
	require.Equal(t, steps, transcript(t, "../../README.zh-CN.md"))
	d := &drafter{dir: t.TempDir()}
	const listed = "127.0.0.1:8080" // in the README; here it may be taken
	listens := listed
	var ran []string
	for _, s := range steps {
		args := strings.Fields(strings.ReplaceAll(s.command, listed, listens))
		switch {
		case args[0] == "export":
			d.env = append(d.env, args[1:]...)
			continue
		case args[len(args)-1] == "&":
			listens = background(t, d, strings.Fields(strings.NewReplacer(listed, "127.0.0.1:0", " &", "").Replace(s.command))[1:], s.shows[0], listed)
			continue
		}
		require.Equal(t, "parkbridge", args[0])
		ran = append(ran, args[1])
		code, stdout, stderr := d.run(t.Context(), args[1:]...)
		require.Contains(t, []int{exitDone, exitFaults}, code, "%s\n%s%s", s.command, stdout, stderr)
		require.Regexp(t, shown(s.shows), squeezed(strings.ReplaceAll(stdout, listens, listed)), s.command)
		require.Empty(t, stderr, s.command)
	}
	require.Subset(t, ran, []string{"init", "check", "sync"})
}

// background starts a gate as a step does, waits for the line that it shows,
// and gives the address in it.
func background(t *testing.T, d *drafter, args []string, shows, listed string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = d.dir
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	address := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(line)
	require.Equal(t, shows+"\n", strings.ReplaceAll(line, address, listed))
	return address
}

package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "photon-propagate:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	flags := flag.NewFlagSet("photon-propagate", flag.ContinueOnError)
	muonFiles := flags.String("muons", "", "muon files, separated by commas")
	output := flags.String("output", "", "file for the hits")
	seed := flags.Uint64("seed", 0, "64-bit seed; must differ between jobs, tasks and datasets")
	oversize := flags.Float64("oversize", 20, "sensors are enlarged and photons thinned by this factor and its square")
	threads := flags.Int("threads", granted(), "threads, where there is no card; the result does not depend on them")
	card := flags.String("card", os.Getenv("FLOE_GPUS"), "follow photons on this card: OCL-PLATFORM.DEVICE of OpenCL, or a card's name as floe gives it; empty means threads")
	devices := flags.Bool("devices", false, "list what OpenCL finds, and end")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *devices {
		list, err := runHost(nil, "list")
		fmt.Print(string(list))
		return err
	}
	if *muonFiles == "" || *output == "" || flags.NArg() > 0 {
		return fmt.Errorf("usage: photon-propagate -muons FILE[,FILE] -output FILE -seed N")
	}
	if !(*oversize >= 1 && *oversize <= 30) {
		return fmt.Errorf("oversize %g is not within 1 and 30", *oversize)
	}
	var muons []Muon
	for _, name := range strings.Split(*muonFiles, ",") {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		more, err := readMuons(file, name, int32(len(muons)))
		file.Close()
		if err != nil {
			return err
		}
		muons = append(muons, more...)
	}
	ice, light := newMedium(), newSpectrum()
	density := light.perMetre * efficiencyEnvelope / (*oversize * *oversize)
	var steps []Step
	for i := range muons {
		steps = muons[i].steps(*seed, density, steps)
	}
	number(steps)
	sensors := newArray(*oversize)
	var hits []Hit
	var summary Summary
	if *card != "" {
		one, _, _ := strings.Cut(*card, ",")
		var device cardDevice
		var err error
		if hits, summary, device, err = propagateOnCard(one, kernelConstants(ice, sensors), *seed, steps, light, ice, sensors); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "photon-propagate: %d photons on %s %s (%s, driver %s)\n", summary.Photons, device.ID, device.Device, device.Platform, device.Driver)
	} else {
		hits, summary = propagate(*seed, steps, light, ice, sensors, *threads)
	}
	if err := write(*output, hits, muons); err != nil {
		return err
	}
	return report(len(muons), *card != "", summary)
}

// granted is how many cores floe has given.
func granted() int {
	n, err := strconv.Atoi(os.Getenv("FLOE_CORES"))
	if err != nil || n < 1 {
		return 1
	}
	return n
}

func write(name string, hits []Hit, muons []Muon) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := writeHits(file, hits, muons); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}

// report hands the statistics to floe, or prints them where there is none.
func report(muons int, onCard bool, s Summary) error {
	cards := 0.0
	if onCard {
		cards = 1
	}
	text, err := json.Marshal(map[string]float64{
		"muons": float64(muons), "cards": cards, "light_steps": float64(s.Steps), "photons": float64(s.Photons),
		"photons_absorbed": float64(s.Absorbed), "photons_escaped": float64(s.Escaped),
		"hits": float64(s.Hits), "scatters_per_hit": float64(s.Scatters) / float64(max(s.Hits, 1)),
	})
	if err != nil {
		return err
	}
	if name := os.Getenv("FLOE_STATISTICS"); name != "" {
		return os.WriteFile(name, append(text, '\n'), 0o644)
	}
	_, err = fmt.Println(string(text))
	return err
}

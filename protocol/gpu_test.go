package protocol

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGPUVariablesShowTheCardsOfEachVendor(t *testing.T) {
	const (
		nvidia = "GPU-5ab2c1de-0f3a-11ee-9c3b-0242ac120002"
		mig    = "MIG-GPU-e0000000-aaaa-bbbb-cccc-000000000000/2/0"
		amd    = "GPU-0000044ef6c4bfad"
	)
	for _, tt := range []struct {
		promise string
		ids     []string
		want    []string
	}{
		{"no card hides all", nil, []string{"FLOE_GPUS=", "CUDA_VISIBLE_DEVICES=", "ROCR_VISIBLE_DEVICES="}},
		{
			"NVIDIA's are named by index, UUID or instance",
			[]string{"3", nvidia, mig},
			[]string{"FLOE_GPUS=3," + nvidia + "," + mig, "CUDA_VISIBLE_DEVICES=3," + nvidia + "," + mig, "ROCR_VISIBLE_DEVICES="},
		},
		{
			"AMD's by what ROCm calls them, and counted from 0 for HIP and OpenCL",
			[]string{amd, "AMD-2"},
			[]string{"FLOE_GPUS=" + amd + ",AMD-2", "CUDA_VISIBLE_DEVICES=", "ROCR_VISIBLE_DEVICES=" + amd + ",2", "HIP_VISIBLE_DEVICES=0,1", "GPU_DEVICE_ORDINAL=0,1"},
		},
		{
			"what only OpenCL knows has no variable of a vendor",
			[]string{"OCL-1.0", nvidia},
			[]string{"FLOE_GPUS=OCL-1.0," + nvidia, "CUDA_VISIBLE_DEVICES=" + nvidia, "ROCR_VISIBLE_DEVICES="},
		},
	} {
		if diff := cmp.Diff(tt.want, GPUVariables(tt.ids)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.promise, diff)
		}
	}
}

/** Where a pipeline is seen. */
export function pipelineLink({ publicUrl }: { publicUrl: string }, pipelineId: string): string {
  return `${publicUrl}/pipelines/${pipelineId}`;
}

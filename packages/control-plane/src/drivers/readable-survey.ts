import { shownText } from '@cdaas/contract/text.ts';
import type { Survey } from '@cdaas/pipeline/deployment-state.ts';

const mostLines = 20;
const longestLine = 1_000;

/** What a preflight says, short enough to be read and stored, whatever names and numbers a cluster holds. */
export function readableSurvey(found: Survey): Survey {
  const { problems, warnings } = found;
  const more = (count: number) => (count > mostLines ? [`and ${count - mostLines} more`] : []);
  return {
    ...found,
    problems: [
      ...problems.slice(0, mostLines).map(({ object, message }) => ({
        object: shownText(object, longestLine),
        message: shownText(message, longestLine),
      })),
      ...more(problems.length).map((message) => ({ object: 'besides', message })),
    ],
    warnings: [...warnings.slice(0, mostLines).map((text) => shownText(text, longestLine)), ...more(warnings.length)],
  };
}

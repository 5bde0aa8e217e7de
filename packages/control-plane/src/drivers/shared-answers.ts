/**
 * Questions that many ask at the same time, such as the lists of a namespace in which a hundred runs begin together.
 * Whoever asks while an answer is on its way waits for the next one, which all who wait share: nobody gets an answer that
 * was begun before he asked, and one question is never under way twice. Nothing is kept once it was answered, so that what
 * is shared must not be changed.
 */
export type SharedAnswers = {
  /** @param key names the question: whoever gives the same key must ask the same. `ask` is called at most once for all. */
  ask<Answer>(key: string, ask: () => Promise<Answer>): Promise<Answer>;
};

export function createSharedAnswers(): SharedAnswers {
  type Question = { running: Promise<unknown>; next: Promise<unknown> | null };
  const questions = new Map<string, Question>();

  const begin = (key: string, ask: () => Promise<unknown>): Promise<unknown> => {
    const question: Question = { running: ask(), next: null };
    questions.set(key, question);
    const over = () => {
      if (question.next === null) questions.delete(key);
    };
    question.running.then(over, over);
    return question.running;
  };

  return {
    ask<Answer>(key: string, ask: () => Promise<Answer>): Promise<Answer> {
      const question = questions.get(key);
      if (!question) return begin(key, ask) as Promise<Answer>;
      const afterwards = () => begin(key, ask);
      question.next ??= question.running.then(afterwards, afterwards);
      return question.next as Promise<Answer>;
    },
  };
}

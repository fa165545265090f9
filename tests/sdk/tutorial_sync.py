"""A question to the OpenAI API, as one writes it where nothing has to be retried by hand.

OPENAI_BASE_URL and OPENAI_API_KEY come from the environment, where the SDK looks for them.
"""

from openai import OpenAI


def ask(question, model="gpt-4o"):
    completion = OpenAI().chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}])
    return completion.choices[0].message.content


if __name__ == "__main__":
    print("Response:", ask("Hello, without a retry loop!"))
